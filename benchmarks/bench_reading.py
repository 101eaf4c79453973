"""Times reading and predicting files beside another checkout: processor time, in pairs.

    python benchmarks/bench_reading.py --against=../older/segjax --output=benchmarks/results

Files are synthetic. Both checkouts run the same reading in processes of their own, in turn,
and the median of the pairs' ratios counts (this checkout / the other one). Without
`--against` the seconds of this checkout alone are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from results import environment, save

ROOT = Path(__file__).resolve().parent.parent
FILES = 60
SIDE = 512
READINGS = 5
IMAGES = ("grey.png", "rgb.png", "photo.jpg", "photo.webp", "grey.tif", "deflate.tif")
KINDS = (*(f"image {name}" for name in IMAGES), "stack", "label", "coco", "predict")


def write_files(folder: Path) -> None:
    """Draws `FILES` files of each kind, a stack, labels and an annotation file."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for i in range(FILES):
        waves = 128 + 60 * np.sin(x / (9 + i)) + 60 * np.cos(y / (7 + i))
        grey = (waves + rng.normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8)
        rgb = np.stack([grey, 255 - grey, grey // 2], axis=-1)
        for name in IMAGES:
            path = folder / "images" / name / f"{i:03d}{Path(name).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = grey if name in ("grey.png", "grey.tif", "deflate.tif") else rgb
            if path.suffix == ".tif":
                packing = "zlib" if "deflate" in name else None
                tifffile.imwrite(path, pixels, compression=packing)
            else:
                Image.fromarray(pixels).save(path)
        label = Image.fromarray((grey > 128).astype(np.uint8))
        label.putpalette([0, 0, 0, 255, 255, 255])
        (folder / "labels").mkdir(exist_ok=True)
        label.save(folder / f"labels/{i:03d}.png")
    pages = rng.integers(0, 4096, (FILES, SIDE, SIDE), np.uint16)
    tifffile.imwrite(folder / "stack.tif", pages, photometric="minisblack")
    write_annotations(folder / "a.json", rng)


def write_annotations(path: Path, rng: np.random.Generator) -> None:
    """Draws an annotation file of 2,000 images and 20,000 objects."""
    corners = rng.uniform(20, 400, (20_000, 2)).round(2).tolist()
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE}
        for i in range(1, 2001)
    ]
    annotations = [
        {
            "id": n,
            "image_id": n % 2000 + 1,
            "category_id": n % 3 + 1,
            "bbox": [x, y, 60.0, 50.0],
            "area": 3000.0,
            "iscrowd": 0,
            "segmentation": [[x, y, x + 60, y, x + 60, y + 50, x, y + 50]],
        }
        for n, (x, y) in enumerate(corners, 1)
    ]
    categories = [{"id": k, "name": f"thing{k}"} for k in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))


def read(kind: str, folder: Path) -> None:
    """Reads all files of one kind, with the segjax that is imported."""
    from segjax.data.datasets.coco.annotation_files import read_coco
    from segjax.data.files import images

    if kind == "coco":
        read_coco(folder / "a.json")
    elif kind == "label":
        for path in sorted((folder / "labels").iterdir()):
            images.read_label(path)
    elif kind == "stack":
        for _ in images.read_pages(folder / "stack.tif"):
            pass
    else:
        part = folder / "images" / kind.removeprefix("image ")
        for path in images.list_images(part):
            for _ in images.read_pages(path):
                pass


def measure_reading(kind: str, folder: Path) -> None:
    """Prints the median processor seconds of a few readings, the first being left out."""
    read(kind, folder)
    found = []
    for _ in range(READINGS):
        began = time.process_time()
        read(kind, folder)
        found.append(time.process_time() - began)
    print(statistics.median(found))


def seconds(checkout: Path, kind: str, folder: Path) -> float:
    """Processor seconds of one checkout for one kind."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    if kind != "predict":
        own = [sys.executable, __file__, f"--measure={kind}", f"--files={folder}"]
        ended = subprocess.run(
            own, env=environment, check=True, capture_output=True, text=True
        )
        return float(ended.stdout.splitlines()[-1])
    with tempfile.TemporaryDirectory() as output:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        segjax(
            checkout,
            "predict",
            f"--workdir={folder / 'run'}",
            f"--input={folder / 'images/grey.png'}",
            f"--output={output}",
            "--overlay",
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def segjax(checkout: Path, *arguments: str) -> None:
    """Runs the command line of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "segjax.main", *arguments]
    subprocess.run(
        command, cwd=checkout, env=environment, check=True, capture_output=True
    )


def compare(folder: Path, other: Path | None, pairs: int) -> list[dict[str, Any]]:
    """One row for each kind; the checkouts take turns."""
    # What the older one has trained, both can read.
    trainer = (other or ROOT).resolve()
    segjax(trainer, "--config=configs/unet_em.py:smoke", f"--workdir={folder / 'run'}")
    rows = []
    for kind in KINDS:
        seconds(ROOT, kind, folder)
        if other:
            seconds(other.resolve(), kind, folder)
        own, theirs = [], []
        for _ in range(pairs):
            own.append(seconds(ROOT, kind, folder))
            if other:
                theirs.append(seconds(other.resolve(), kind, folder))
        row = {"what": kind, "seconds": statistics.median(own)}
        if other:
            ratios = [a / b for a, b in zip(own, theirs, strict=True)]
            row |= {"other": statistics.median(theirs)}
            row |= {"ratio": statistics.median(ratios), "ratios": sorted(ratios)}
        rows.append(row)
        note = f", ratio {row['ratio']:.3f}" if other else ""
        print(f"{kind:18} {row['seconds']:.3f} s{note}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", type=Path, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_reading(arguments.measure, arguments.files)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        rows = compare(Path(folder), arguments.against, arguments.pairs)
    found = environment("cpu") | {"files": FILES, "pairs": arguments.pairs}
    save("reading", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
