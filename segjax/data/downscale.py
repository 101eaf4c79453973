"""Smaller images and labels, by whole factors, before they are stored or used."""

from __future__ import annotations

import numpy as np

from segjax.types import is_integer


def area_average(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of `factor` x `factor` pixels, rounded where intensities are integers.

    Args:
      image: `[H, W, C]`, H and W multiples of the factor.
      factor: at least 1.

    Returns:
      `[H / factor, W / factor, C]` of the same type.

    Raises:
      ValueError: when the factor does not divide the sides.

    Example:
      >>> area_average(np.array([[[0], [1]], [[2], [4]]], np.uint8), 2).ravel().tolist()
      [2]
    """
    height, width, channels = image.shape
    require_factor(image.shape, factor)
    if factor == 1:
        return image
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    if image.dtype.kind == "f":
        return blocks.mean(axis=(1, 3), dtype=np.float32).astype(image.dtype)
    total = blocks.sum(axis=(1, 3), dtype=np.int64)
    area = factor * factor
    return ((total + area // 2) // area).astype(image.dtype)


def nearest_label(label: np.ndarray, factor: int) -> np.ndarray:
    """Takes the pixel at the centre of every block; with an even factor, after it.

    Args:
      label: `[H, W]`, H and W multiples of the factor.
      factor: at least 1.

    Returns:
      `[H / factor, W / factor]`; no class is invented.

    Raises:
      ValueError: when the factor does not divide the sides.

    Example:
      >>> nearest_label(np.array([[1, 2], [3, 4]]), 2).tolist()
      [[4]]
    """
    require_factor(label.shape, factor)
    return label[factor // 2 :: factor, factor // 2 :: factor]


def require_factor(shape: tuple[int, ...], factor: int) -> None:
    """Raises ValueError where a factor does not divide the sides of `[H, W, ...]`."""
    height, width = shape[:2]
    if not is_integer(factor) or factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"downscale must be an integer of at least 1 that divides {height} and "
            f"{width}, got {factor!r}"
        )
