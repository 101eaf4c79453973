"""Measures what a network finds on pages that hold nothing.

    python benchmarks/empty_pages.py --data=../shared/data/nuclei_dsb2018 \
        --output=benchmarks/results

Networks are trained with `configs/unet_folder.py` on 5 and on 42 fluorescence images of the
2018 Data Science Bowl (`index.csv`, `images/`, `labels/`). Then they label pages of Gaussian
noise with mean and standard deviation of the training images' background, of each image and
of all together; constant pages from the least to the largest intensity of those images; and
smooth gradients between the two. Of each page the foreground should be at most 0.5 %. Beside
it stands the mean IoU on the test images, as a network that finds nothing at all would pass.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from nuclei import fluorescence
from PIL import Image
from results import environment, save

from segjax import config
from segjax.metrics import semantic_metrics
from segjax.runs.load import load_trained
from segjax.runs.train import train

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "unet_folder.py"
ALLOWED = 0.005
SIDE = 256
"""Of a page, in pixels."""

CONSTANTS = 17
Pair = tuple[np.ndarray, np.ndarray]
"""An image `[H, W]` uint8, and its mask, `[H, W]` bool."""


def read(data: Path, split: str, count: int | None = None) -> list[Pair]:
    """Reads fluorescence images of a split, evenly spread where only some are wanted."""
    ids = fluorescence(data, split)
    if count is not None:
        ids = [ids[int(i)] for i in np.linspace(0, len(ids) - 1, count).round()]
    pairs = []
    for name in ids:
        with Image.open(data / "images" / f"{name}.png") as image:
            grey = np.asarray(image.convert("L"))
        with Image.open(data / "labels" / f"{name}.png") as label:
            pairs.append((grey, np.asarray(label) > 0))
    return pairs


def write_folder(pairs: list[Pair], root: Path) -> None:
    """Writes images and masks as the folder data set wants them."""
    for name, place in (("images", 0), ("labels", 1)):
        (root / name).mkdir(parents=True)
        for i, pair in enumerate(pairs):
            array = pair[place].astype(np.uint8)
            Image.fromarray(array).save(root / name / f"{i:03d}.png")


def empty_pages(pairs: list[Pair]) -> dict[str, np.ndarray]:
    """Pages without objects, by name, `[H, W]` uint8."""
    rng = np.random.default_rng(0)
    backgrounds = [image[~mask].astype(float) for image, mask in pairs]
    chosen = {"all": np.concatenate(backgrounds)} | {
        str(i): backgrounds[i] for i in range(min(8, len(pairs)))
    }
    pages = {}
    for name, pixels in chosen.items():
        page = rng.normal(pixels.mean(), pixels.std(), (SIDE, SIDE))
        pages[f"noise of {name}"] = page
    least = min(int(image.min()) for image, _ in pairs)
    largest = max(int(image.max()) for image, _ in pairs)
    for level in np.linspace(least, largest, CONSTANTS):
        pages[f"constant {level:.0f}"] = np.full((SIDE, SIDE), level)
    rise = np.tile(np.linspace(least, largest, SIDE), (SIDE, 1))
    pages["gradient to the right"] = rise
    pages["gradient to the left"] = rise[:, ::-1]
    pages["gradient down"] = rise.T
    pages["gradient to a corner"] = (rise + rise.T) / 2
    rounded = {name: np.clip(np.rint(page), 0, 255) for name, page in pages.items()}
    return {name: page.astype(np.uint8) for name, page in rounded.items()}


def measure(
    workdir: Path, train_pairs: list[Pair], test_pairs: list[Pair]
) -> dict[str, Any]:
    """Labels the empty pages, and the test images, with a trained network."""
    trained = load_trained(workdir)

    def foreground(image: np.ndarray) -> np.ndarray:
        return trained.labels(image[..., None]) == 1

    pages = {
        name: float(foreground(page).mean())
        for name, page in empty_pages(train_pairs).items()
    }
    counts = np.zeros((2, 2), np.int64)
    for image, mask in test_pairs:
        pair = 2 * mask.astype(int) + foreground(image)
        counts += np.bincount(pair.ravel(), minlength=4).reshape(2, 2)
    metrics = semantic_metrics(counts, ("background", "foreground"))
    return {
        "normalization": repr(trained.task.normalization),
        "largest_foreground": max(pages.values()),
        "foreground": pages,
        "test_images": len(test_pairs),
        "test_mean_iou": metrics["mean_iou"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", default="5,42", help="of training, comma between")
    parser.add_argument("--steps", type=int, help="of training, if not the config's")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    found = environment("cpu")
    test_pairs, rows = read(args.data, "test"), []
    for count in map(int, args.images.split(",")):
        pairs = read(args.data, "train", count)
        settings = config.load(str(CONFIG))
        if args.steps is not None:
            settings.num_steps = args.steps
        with tempfile.TemporaryDirectory() as folder:
            root, workdir = Path(folder) / "data", Path(folder) / "run"
            write_folder(pairs, root)
            train(settings, workdir, data_root=str(root))
            measured = measure(workdir, pairs, test_pairs)
        row = {"training_images": count, "steps": settings.num_steps, **measured}
        print(row, flush=True)
        rows.append(row)
    worst = max(row["largest_foreground"] for row in rows)
    save("empty_pages", {**found, "rows": rows}, args.output)
    if worst > ALLOWED:
        sys.exit(f"{100 * worst:.2f} % of an empty page became foreground.")


if __name__ == "__main__":
    main()
