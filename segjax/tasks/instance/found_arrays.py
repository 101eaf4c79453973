"""What is found in an image as arrays alone, as they travel from one process to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.rle import Rle

_SIZE, _COUNTS, _LENGTHS = "size", "mask_counts", "mask_lengths"


def to_arrays(found: Mapping[str, Any], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Writes what was found as arrays.

    Args:
      found: arrays, and where there are any `masks`, run lengths; see `InstancePredictor`.
      size: `(height, width)` of the image.

    Returns:
      The arrays, and the runs of all masks after each other, with how many each has.
    """
    arrays = {name: np.asarray(x) for name, x in found.items() if name != "masks"}
    if "masks" in found:
        counts = [np.asarray(mask.counts, np.int64) for mask in found["masks"]]
        arrays[_COUNTS] = np.concatenate([*counts, np.zeros(0, np.int64)])
        arrays[_LENGTHS] = np.asarray([len(x) for x in counts], np.int64)
    return {**arrays, _SIZE: np.asarray(size, np.int64)}


def from_arrays(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Reads what `to_arrays` has written.

    Args:
      arrays: those.

    Returns:
      What was found, and the size of the image.

    Example:
      >>> masks = (Rle((1, 4), np.array([1, 2, 1])), Rle((1, 4), np.array([0, 4])))
      >>> found, size = from_arrays(to_arrays({"masks": masks}, (1, 4)))
      >>> size, [mask.counts.tolist() for mask in found["masks"]]
      ((1, 4), [[1, 2, 1], [0, 4]])
    """
    found: dict[str, Any] = dict(arrays)
    height, width = (int(x) for x in found.pop(_SIZE))
    if _COUNTS in found:
        ends = np.cumsum(found.pop(_LENGTHS))
        runs = np.split(found.pop(_COUNTS), ends[:-1]) if len(ends) else []
        found["masks"] = tuple(Rle((height, width), x) for x in runs)
    return found, (height, width)
