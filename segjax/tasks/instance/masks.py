"""The objects of a record as masks, and masks as a label image."""

from __future__ import annotations

import numpy as np

from segjax.rle import decode
from segjax.types import Record


def instance_masks(record: Record) -> np.ndarray:
    """Masks of the objects of a record that are not crowds, bool `[N, H, W]`."""
    size = record["image"].shape[:2]
    kept = [
        decode(rle)
        for rle, crowd in zip(record["masks"], record["crowd"], strict=True)
        if not crowd
    ]
    return np.stack(kept) if kept else np.zeros((0, *size), bool)


def label_image(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Numbers the objects of an image from 1; where they overlap, the first one stays.

    Args:
      masks: bool `[N, H, W]`, the best first.
      size: height and width.

    Returns:
      int32 `[H, W]`, 0 where there is no object.

    Example:
      >>> label_image(np.array([[[1, 1, 0]], [[0, 1, 1]]], bool), (1, 3)).tolist()
      [[1, 1, 2]]
    """
    label = np.zeros(size, np.int32)
    for number, mask in enumerate(masks, 1):
        label[mask & (label == 0)] = number
    return label
