"""A data set: a function that gives a `segjax.data.dataset.Dataset`."""

from __future__ import annotations

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec

LABEL_SPEC = LabelSpec(("background", "disc"), ((0, 0, 0), (255, 255, 255)))


def discs(*, size: int = 32, count: int = 8, channels: int = 1) -> Dataset:
    """Bright discs on a noisy background.

    Args:
      size: side of an image in pixels.
      count: training images; a fourth as many validate, and as many test.
      channels: of the images.

    Returns:
      The data set, the same at each call.
    """
    rng = np.random.default_rng(0)
    counts = {"train": count, "validation": count // 4, "test": count // 4}
    splits = {
        split: [
            _record(rng, size, channels, f"{split}_{i}") for i in range(counts[split])
        ]
        for split in counts
    }
    return Dataset("discs", LABEL_SPEC, channels, splits)


def _record(rng: np.random.Generator, size: int, channels: int, name: str) -> dict:
    row, column = rng.integers(size // 4, 3 * size // 4, 2)
    rows, columns = np.ogrid[:size, :size]
    label = (rows - row) ** 2 + (columns - column) ** 2 < (size // 4) ** 2
    image = rng.normal(80 + 100 * label[..., None], 20, (size, size, channels))
    return {
        "image": image.clip(0, 255).astype(np.uint8),
        "label": label.astype(np.uint8),
        "name": name,
    }
