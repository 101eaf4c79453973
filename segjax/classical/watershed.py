"""Objects by a threshold and a watershed: what a network for nuclei has to beat."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.classical.otsu import otsu_threshold

SIGMAS = (0.5, 1.0, 2.0)
"""Smoothing before the threshold, pixels, among which images with labels choose."""

SPACINGS = (3, 5, 8)
"""Least distances of seeds, pixels, likewise."""


def watershed_baseline(
    image: np.ndarray,
    *,
    sigma: float = 1.0,
    spacing: int = 5,
    least_area: int = 20,
) -> np.ndarray:
    """Parts an image into objects without any learning.

    Otsu's threshold gives the foreground, which of its two sides is the smaller one, so
    that dark nuclei in stained tissue are found as well as bright ones. Holes are
    filled. Objects that touch are parted where they are narrow: the distance to the
    background is smoothed, its maxima are the seeds of a watershed (Vincent and Soille
    1991, IEEE PAMI 13(6)).

    Args:
      image: `[H, W]` or `[H, W, C]`, any real type; channels are averaged.
      sigma: standard deviation of the smoothing before the threshold, pixels.
      spacing: seeds are at least this far apart, pixels.
      least_area: objects of fewer pixels are dropped.

    Returns:
      Numbers of objects from 1, 0 where there is none, int32 `[H, W]`.

    Raises:
      ValueError: if the image has another shape, or a number is negative.

    Example:
      >>> image = np.zeros((20, 30))
      >>> image[5:15, 3:13], image[5:15, 17:27] = 1, 1
      >>> watershed_baseline(image, sigma=0)[10, [1, 8, 15, 22]].tolist()
      [0, 1, 0, 2]
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"image must be [H, W] or [H, W, C], got shape {image.shape}")
    for name, value in (
        ("sigma", sigma),
        ("spacing", spacing),
        ("least_area", least_area),
    ):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    grey = image.astype(np.float32)
    grey = grey.mean(-1) if grey.ndim == 3 else grey
    grey = ndimage.gaussian_filter(grey, sigma, mode="nearest")
    inside = grey > otsu_threshold(grey)
    if inside.mean() > 0.5:
        inside = ~inside
    inside = ndimage.binary_fill_holes(inside)
    label = _parted(inside, spacing)
    areas = np.bincount(label.ravel())
    kept = np.flatnonzero((areas >= max(least_area, 1)) & (np.arange(len(areas)) > 0))
    numbers = np.zeros(len(areas), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[label]


def _parted(inside: np.ndarray, spacing: int) -> np.ndarray:
    """Numbers the parts of a mask, int32 `[H, W]`."""
    if not inside.any() or inside.all():
        return inside.astype(np.int32)
    # The rim of the image is not an outline: an object that leaves it is not narrow there.
    distance = ndimage.distance_transform_edt(inside)
    smooth = ndimage.gaussian_filter(distance, spacing / 4)
    peaks = inside & (smooth >= ndimage.maximum_filter(smooth, 2 * spacing + 1))
    seeds, count = ndimage.label(peaks, np.ones((3, 3)))
    # A piece that lies too near to a larger one to have a peak is an object of its own.
    pieces, total = ndimage.label(inside)
    lone = np.setdiff1d(np.arange(1, total + 1), pieces[peaks])
    seeds = np.where(np.isin(pieces, lone), count + pieces, seeds)
    from skimage.segmentation import watershed

    return watershed(-smooth, seeds, mask=inside).astype(np.int32)
