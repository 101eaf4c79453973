"""Small whole files of every kind that segjax reads, made by our own code."""

from __future__ import annotations

import io
import json
import runpy
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import tifffile
from mutators import png_of
from PIL import Image

SIZE = (20, 24)
"""Height and width of the images."""


class Seed(NamedTuple):
    """A folder in which one file is damaged.

    Attributes:
      target: what reads it: key of `targets.TARGETS`.
      victim: the file that is damaged, within the folder.
      kind: how it can be taken apart: key of `mutators.OF_KIND`.
      files: bytes by path; None is a named pipe.
    """

    target: str
    victim: str
    kind: str
    files: dict[str, bytes | None]


def grey(seed: int = 0, dtype: type = np.uint8, channels: tuple = ()) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*SIZE, *channels)).astype(dtype)


def label(seed: int = 0) -> np.ndarray:
    return (grey(seed) > 128).astype(np.uint8)


def picture(values: np.ndarray, form: str, mode: str = "", **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def tif(values: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, **({"photometric": "minisblack"} | options))
    return out.getvalue()


def interlaced(values: np.ndarray) -> bytes:
    """A grey PNG in the seven passes of Adam7, which Pillow cannot write."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4))
    starts += ((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = (values[y::down, x::across] for y, x, down, across in starts)
    return _png(passes, 8, 0, 1)


def deep_rgb() -> bytes:
    """A PNG in colour of 16 bits, which Pillow cannot write."""
    values = grey(dtype=np.uint16, channels=(3,)) * 200
    return _png([values.astype(">u2")], 16, 2, 0)


def _png(parts: Iterable[np.ndarray], depth: int, color: int, adam7: int) -> bytes:
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], depth, color, 0, 0, adam7)
    return png_of([(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def images() -> dict[str, bytes]:
    """One file of each format."""
    exif = Image.Exif()
    exif[274] = 6
    rgb, deep = grey(channels=(3,)), grey(dtype=np.uint16) * 200
    stack = np.stack([grey(i) for i in range(3)])
    wide = np.tile(deep, (3, 3))
    other = '<Image ID="i"><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="24" SizeY="20" SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="0" PlaneCount="1"/><TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="other.ome.tif">urn:uuid:00000000-0000-0000-0000-000000000001</UUID></TiffData></Pixels></Image>'
    ome = f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:00000000-0000-0000-0000-000000000000">{other}</OME>'
    return {
        "grey.png": picture(grey(), "PNG"),
        "deep.png": picture(deep, "PNG"),
        "rgb.png": picture(rgb, "PNG"),
        "alpha.png": picture(rgb, "PNG", "RGBA"),
        "palette.png": picture(label(), "PNG", "P"),
        "bilevel.png": picture(label() * 255, "PNG", "1"),
        "interlaced.png": interlaced(grey()),
        "deep_rgb.png": deep_rgb(),
        "turned.jpg": picture(rgb, "JPEG", exif=exif),
        "grey.jpg": picture(grey(), "JPEG"),
        "progressive.jpg": picture(rgb, "JPEG", progressive=True),
        "lossy.webp": picture(rgb, "WEBP", exif=exif),
        "lossless.webp": picture(rgb, "WEBP", lossless=True),
        "rgb.bmp": picture(rgb, "BMP"),
        "grey.gif": picture(grey(), "GIF"),
        "strips.tif": tif(grey(), rowsperstrip=8),
        "big_endian.tif": tif(deep, byteorder=">"),
        "tiles.tif": tif(wide, tile=(16, 16), compression="zlib", predictor=True),
        "stack.tif": tif(stack),
        "imagej.tif": tif(stack, imagej=True, metadata={"axes": "ZYX"}),
        "channels.tif": tif(stack, imagej=True, metadata={"axes": "CYX"}),
        "planes.ome.tif": tif(stack, ome=True, metadata={"axes": "ZYX"}),
        "elsewhere.ome.tif": tif(grey(), description=ome, metadata=None),
        "big.tif": tif(stack, bigtiff=True),
        "rgb.tif": tif(rgb, photometric="rgb"),
        "planar.tif": tif(
            np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "palette.tif": tif(label(), photometric="palette", colormap=_colormap()),
        "white.tif": tif(grey(), photometric="miniswhite"),
        "float.tif": tif(grey(dtype=np.float32)),
        "bilevel.tif": tif(label().astype(bool)),
        "jpeg.tif": picture(rgb, "TIFF", compression="jpeg"),
        "lzw.tif": picture(rgb, "TIFF", compression="tiff_lzw"),
    }


def _colormap() -> np.ndarray:
    return np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)


def kind_of(name: str) -> str:
    return {"png": "png", "tif": "tiff"}.get(name.rpartition(".")[2], "bytes")


def folders() -> list[Seed]:
    """Folders of images and labels, of objects, and with lists of CamVid and VOC."""
    masks = {f"labels/{i}.png": picture(label(i), "PNG") for i in range(4)}
    plain = {f"images/{i}.png": picture(grey(i), "PNG") for i in range(4)} | masks
    stack = plain | {
        "images/s.tif": tif(np.stack([grey(i) for i in range(3)])),
        "labels/s.tif": tif(np.stack([label(i) for i in range(3)])),
    }
    index = b"id,split\n0,train\n1,train\n2,val\n3,test\n"
    camvid = b"/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n" * 3
    jpg = {f"JPEGImages/{i}.jpg": picture(grey(int(i)), "JPEG", "RGB") for i in "12"}
    colors = [v for i in range(256) for v in _voc_color(i)]
    png = {f"SegmentationClass/{i}.png": _palette(label(int(i)), colors) for i in "12"}
    lists = {
        f"ImageSets/Segmentation/{k}.txt": b"%d\n" % (i + 1)
        for i, k in enumerate(("train", "val"))
    }
    voc = jpg | png | lists
    return [
        Seed("folder", "images/1.png", "png", plain),
        Seed("folder", "labels/1.png", "png", plain),
        Seed("folder", "images/s.tif", "tiff", stack),
        Seed("folder", "labels/s.tif", "tiff", stack),
        Seed("renamed", "images/1.png", "text", plain | {"name": b"image 1"}),
        Seed("memory", "memory", "json", plain | {"memory": b"{}"}),
        Seed("instance_folder", "labels/1.png", "png", plain),
        Seed("instance_folder", "index.csv", "text", plain | {"index.csv": index}),
        Seed("camvid", "train.txt", "text", {"train.txt": camvid}),
        Seed("voc", "ImageSets/Segmentation/train.txt", "text", voc),
        Seed("voc", "SegmentationClass/1.png", "png", voc),
    ]


def outlines() -> list[Seed]:
    """Labels as ROIs of ImageJ, one and zipped, and as GeoJSON."""
    from segjax.data.files.geojson import write_geojson
    from segjax.data.files.imagej_roi import encode_roi, write_rois
    from segjax.data.outlines import outlines_of

    numbers = np.kron(np.arange(6).reshape(2, 3), np.ones((10, 8), int))
    numbers[3:6, 11:13] = 0  # a hole
    zipped, text = io.BytesIO(), io.BytesIO()
    found = list(outlines_of(numbers, page=0, class_names={2: "b"}))
    write_rois(zipped, found)
    write_geojson(text, found, {"b": (0, 0, 0)})
    files = {"a.roi": encode_roi(found[1]), "hole.roi": encode_roi(found[0])}
    files |= {"a.zip": zipped.getvalue(), "a.geojson": text.getvalue()}
    return [
        Seed(
            "outlines", name, "json" if name.endswith("json") else "bytes", {name: raw}
        )
        for name, raw in files.items()
    ]


def _palette(values: np.ndarray, colors: list[int]) -> bytes:
    image = Image.fromarray(values)
    image.putpalette(colors)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _voc_color(index: int) -> tuple[int, ...]:
    return tuple(
        sum(((index >> (3 * j + c)) & 1) << (7 - j) for j in range(8)) for c in range(3)
    )


def coco() -> list[Seed]:
    """Annotation files with polygons, both forms of run lengths, and keypoints."""
    from segjax.rle import encode, to_string

    rle = encode(label())
    forms: list[Any] = [
        [[2, 2, 12, 2, 12, 10, 2, 10], [14.5, 3, 18, 3, 16, 9]],
        {"size": list(SIZE), "counts": rle.counts.tolist()},
        {"size": list(SIZE), "counts": to_string(rle)},
    ]
    annotations = [
        {
            "id": i + 1,
            "image_id": i % 2 + 1,
            "category_id": 3,
            "iscrowd": int(i == 1),
            "bbox": [2, 2, 16.5, 8],
            "area": 80.5,
            "segmentation": form,
            "keypoints": [3, 4, 2, 0, 0, 0],
            "num_keypoints": 1,
        }
        for i, form in enumerate(forms)
    ]
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in (1, 2)
        ],
        "annotations": annotations,
        "categories": [
            {"id": 3, "name": "cell", "keypoints": ["a", "b"], "skeleton": [[1, 2]]},
            {"id": 7, "name": "other"},
        ],
    }
    files: dict[str, bytes | None] = {
        f"train/{i}.png": picture(grey(i, channels=(3,)), "PNG") for i in (1, 2)
    }
    raw = json.dumps(content).encode()
    return [
        Seed("coco", "train.json", "json", files | {"train.json": raw}),
        Seed("rle_text", "counts.txt", "text", {"counts.txt": to_string(rle).encode()}),
        Seed("rle_counts", "c.json", "numbers", _as_json("c", rle.counts.tolist())),
        Seed("polygons", "p.json", "numbers", _as_json("p", forms[0])),
    ]


def _as_json(name: str, value: Any) -> dict[str, bytes | None]:
    return {f"{name}.json": json.dumps(value).encode()}


def weights() -> list[Seed]:
    """Files of weights."""
    arrays = {f"conv{i}.weight": np.arange(60.0, dtype="f4") for i in range(3)}
    out = io.BytesIO()
    np.savez(out, **arrays)
    plain, packed = out.getvalue(), safetensors.numpy.save(arrays)
    golden = Path(__file__).resolve().parent.parent / "golden"
    zipped, older = ((golden / f"pth_{x}.pth").read_bytes() for x in ("zip", "older"))
    lite = runpy.run_path(str(Path(__file__).parents[1] / "pretrained/tflite_files.py"))
    return [
        Seed("tflite", "w.tflite", "bytes", {"w.tflite": lite["small"]()}),
        Seed("weights", "w.npz", "npz", {"w.npz": plain}),
        Seed("weights", "w.safetensors", "safetensors", {"w.safetensors": packed}),
        Seed("weights", "zip.pth", "pth", {"zip.pth": zipped}),
        Seed("weights", "older.pth", "pickle", {"older.pth": older}),
    ]


_TRAIN = """
import sys
from pathlib import Path
from segjax.config import load
from segjax.data import DATASETS
from segjax.runs.exports.model import export_run
from segjax.runs.train import train

root, config = Path(sys.argv[1]), load(sys.argv[2])
config.checkpoint_every = 1
train(config, root / "run", cache_dir=str(root / "data"))
export_run(root / "run", root / "cells.segjax")
counts = {"train": 2, "validation": 1, "test": 1}
DATASETS["instance_shapes"](cache_dir=str(root / "data"), size=64, **counts)
"""


def train(root: Path, config: str) -> None:
    """Trains for two steps in a process of its own, as JAX and forks do not agree."""
    command = [sys.executable, "-c", _TRAIN, str(root), config]
    subprocess.run(command, check=True, capture_output=True)


def runs(root: Path) -> list[Seed]:
    """The files of a run and of prepared data sets, each damaged in turn."""
    run = _tree(root, "run", ("tensorboard", "pictures"))
    data = _tree(root, "data", ())
    config = {"run/config.json": run["run/config.json"]}
    abouts = {k: v for k, v in run.items() if "/about/" in k}
    found = [
        Seed("config", "run/config.json", "json", config),
        Seed("config", "run/config.json", "json", config | abouts),
        Seed("rows", "run/metrics.jsonl", "jsonl", run),
    ]
    for path in sorted(data):
        kind = "json" if path.endswith(".json") else "bytes"
        if "/em_sections/" in path or "/instance_shapes/" in path:
            found.append(Seed("prepared", path, kind, data))
    for path in _of_run(run):
        name = path.rpartition("/")[2]
        kind = {"config.json": "json", "metrics.jsonl": "jsonl"}.get(name, "bytes")
        if name in ("metadata", "metrics", "_METADATA", "_CHECKPOINT_METADATA"):
            kind = "json"
        found.append(Seed("trained", path, kind, run))
        found.append(Seed("resumed", path, kind, run | data))
    return found


def model_files(root: Path) -> list[Seed]:
    """A model file, and its members, each damaged in turn."""
    raw = (root / "cells.segjax").read_bytes()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = [x for x in archive.namelist() if x != "SHA256SUMS"]
        members: dict[str, bytes | None] = {x: archive.read(x) for x in names}
    kinds = {"json": "json", "safetensors": "safetensors"}
    return [
        Seed("archive", "cells.segjax", "bytes", {"cells.segjax": raw}),
        *(
            Seed("model", name, kinds.get(name.rpartition(".")[2], "bytes"), members)
            for name in names
        ),
    ]


def _of_run(run: dict[str, bytes | None]) -> list[str]:
    """Its files, as many each time: of those that Orbax names by chance, the largest."""
    stable = [p for p in sorted(run) if "/d/" not in p and "commit_success" not in p]
    by_chance = [
        max((p for p in run if p.startswith(folder)), key=lambda p: len(run[p] or b""))
        for folder in sorted({p.rpartition("/")[0] + "/" for p in run if "/d/" in p})
    ]
    return [*stable, *by_chance, "run/config.json", "run/metrics.jsonl"]


def _tree(root: Path, folder: str, skipped: tuple[str, ...]) -> dict[str, bytes | None]:
    paths = (p for p in (root / folder).rglob("*") if p.is_file())
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in paths
        if not {*p.relative_to(root).parts} & {*skipped}
    }


def zarrs() -> list[Seed]:
    """OME-Zarr of both versions: what it says of an image, of its array, and a chunk.

    They are made by hand: tensorstore starts threads, which a process must not before it forks.
    """
    axes = [{"name": axis} for axis in "zyx"]
    scale = {"type": "scale", "scale": [2, 0.5, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    ome = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    old = {"zarr_format": 2, "shape": (2, *SIZE), "chunks": (1, *SIZE), "dtype": "|u1"}
    old |= {"compressor": None, "filters": None, "fill_value": 0, "order": "C"}
    grid = {"name": "regular", "configuration": {"chunk_shape": (1, *SIZE)}}
    new = {"zarr_format": 3, "node_type": "array", "shape": (2, *SIZE)}
    new |= {"data_type": "uint8", "chunk_grid": grid, "codecs": [{"name": "bytes"}]}
    new |= {"chunk_key_encoding": {"name": "default"}, "fill_value": 0}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    trees: list[dict[str, Any]] = [
        {".zattrs": ome, "0/.zarray": old | {"dimension_separator": "/"}},
        {"zarr.json": group, "0/zarr.json": new},
    ]
    found = []
    for tree, chunks in zip(trees, ("0", "0/c"), strict=True):
        files = {f"a.zarr/{k}": json.dumps(v).encode() for k, v in tree.items()}
        files |= {f"a.zarr/{chunks}/{i}/0/0": grey(i).tobytes() for i in range(2)}
        victims = [*tree, f"{chunks}/0/0/0"]
        for name in victims:
            kind = "json" if name in tree else "bytes"
            found.append(Seed("zarr", f"a.zarr/{name}", kind, dict(files)))
    return found


def all_seeds(root: Path) -> list[Seed]:
    """Every seed; `root` holds what `train` made."""
    pictures = [
        Seed("image", name, kind_of(name), {name: raw, "other.ome.tif": None})
        for name, raw in images().items()
    ]
    return [
        *pictures, *zarrs(), *folders(), *outlines(), *coco(), *weights(), *runs(root),
        *model_files(root),
    ]  # fmt: skip
