"""Otsu's threshold: what one grey value can do, to measure a trained network against."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BINS = 256


def otsu_threshold(image: np.ndarray) -> float:
    """The grey value that parts an image into the two most different classes.

    It maximises the variance between the classes, `n0 n1 (mean0 - mean1)^2`, over the
    bins of a histogram: one bin per value for 8-bit images, else 256 bins from the
    smallest to the largest value. Source: Otsu, "A threshold selection method from
    gray-level histograms", IEEE Trans. SMC 9(1), 1979.

    Args:
      image: Grey values, any shape, finite.

    Returns:
      The centre of the last bin of the dark class; an image of a single value gives
      that value.

    Raises:
      ValueError: If `image` is empty or holds values that are not finite.

    Example:
      >>> otsu_threshold(np.array([10, 10, 12, 200, 202], np.uint8))
      12.0
    """
    image = np.asarray(image)
    if image.size == 0 or not np.isfinite(image).all():
        raise ValueError("image must hold at least one value, and only finite ones")
    low, high = float(image.min()), float(image.max())
    if low == high:
        return low
    if image.dtype == np.uint8:
        count = np.bincount(image.ravel(), minlength=_BINS).astype(np.float64)
        center = np.arange(_BINS, dtype=np.float64)
    else:
        values = image.astype(np.float64).ravel()
        bins, edges = np.histogram(values, _BINS, (low, high))
        count, center = bins.astype(np.float64), (edges[:-1] + edges[1:]) / 2
    below, total = count.cumsum(), count.sum()
    mass = (count * center).cumsum()
    above = total - below
    # Between-class variance times total^2; bins outside the data's range give 0.
    difference = mass * total - mass[-1] * below
    product = below * above
    variance = np.divide(
        difference * difference, product, out=np.zeros_like(product), where=product > 0
    )
    return float(center[variance.argmax()])


def otsu_baseline(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """Segments an EM section by a threshold alone: dark is membrane, light is cell.

    Args:
      image: Grey values `[H, W]` or `[H, W, 1]`.
      sigma: Standard deviation of the Gaussian smoothing before, in pixels; 0 is none.

    Returns:
      0 where membrane, 1 where cell, uint8 `[H, W]`.

    Raises:
      ValueError: If `image` has another shape, or `sigma` is negative.
    """
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim != 2:
        raise ValueError(
            f"image has shape {image.shape}; allowed are [H, W] and [H, W, 1]"
        )
    if sigma < 0:
        raise ValueError(f"sigma is {sigma}; it must not be negative")
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma, mode="reflect")
    return (smooth > otsu_threshold(smooth)).astype(np.uint8)
