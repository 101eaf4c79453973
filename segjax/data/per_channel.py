"""Arithmetic with one number for each channel of an image, whole rows of pixels at a time.

NumPy's inner loop runs along the last axis, so that of an image of three channels it spends
most of its time between the numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def change(
    image: np.ndarray, operation: Callable[..., np.ndarray], values: np.ndarray
) -> None:
    """Writes `operation(image, values)` into the image.

    Args:
      image: `[H, W, C]`.
      operation: of two arrays, as `np.add`.
      values: one for each channel, `[C]`, or one for all, `[1]`.

    Example:
      >>> image = np.zeros((1, 2, 2))
      >>> change(image, np.add, np.array([1, 2]))
      >>> image.tolist()
      [[[1.0, 2.0], [1.0, 2.0]]]
    """
    if values.size > 1 and image.flags.c_contiguous:
        height, width, _ = image.shape
        image, values = image.reshape(height, -1), np.tile(values, width)
    operation(image, values, out=image)


def reduce(image: np.ndarray, operation: Callable[..., np.ndarray]) -> np.ndarray:
    """Reduces an image `[H, W, C]` to one value for each channel, `[C]`.

    Args:
      image: the image.
      operation: with an argument `axis`, as `np.mean`; it is applied to the columns, and to
        what it makes of them.

    Returns:
      `[C]`.

    Example:
      >>> reduce(np.arange(6).reshape(1, 2, 3), np.max).tolist()
      [3, 4, 5]
    """
    return operation(operation(image, axis=0), axis=0)
