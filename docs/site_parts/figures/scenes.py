"""What the figures look at, drawn by rules: nothing is taken from a data set."""

from __future__ import annotations

import numpy as np

COLORS = ((92, 98, 110), (86, 180, 233), (230, 159, 0), (0, 158, 115))
"""Of the classes of `shapes`: ground, disc, bars, ring."""


def nuclei(height: int, width: int, *, count: int, seed: int = 0) -> np.ndarray:
    """Draws bright ellipses on dark ground, some of which nearly touch.

    Args:
      height: pixels.
      width: pixels.
      count: how many are tried.
      seed: of places, sizes and noise.

    Returns:
      int64 `[H, W]`, 0 on the ground and a number for each nucleus.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cells = np.zeros((height, width), int)
    found = 0
    for _ in range(count):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        a, b, turn = rng.uniform(7, 12), rng.uniform(6, 9), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        distance = np.hypot(u / a, v / b)
        if (cells[distance < 1.25] > 0).any():
            continue
        found += 1
        cells[distance < 1] = found
    return cells


def photograph(cells: np.ndarray, *, seed: int = 1) -> np.ndarray:
    """Lights the cells, and adds a blur, an uneven ground and noise.

    Args:
      cells: `[H, W]` of `nuclei`.
      seed: of brightness and noise.

    Returns:
      float64 `[H, W]`, 0 to 1.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    light = np.concatenate([[0.06], rng.uniform(0.55, 1.0, cells.max())])
    image = ndimage.gaussian_filter(light[cells], 1.2)
    image += 0.05 * ndimage.gaussian_filter(rng.normal(size=cells.shape), 9) * 9
    return np.clip(image + rng.normal(0, 0.02, cells.shape), 0, 1)


def shapes(size: int = 64) -> np.ndarray:
    """Draws a disc, bars and a ring as classes 1, 2 and 3.

    Args:
      size: side in pixels, a multiple of 64.

    Returns:
      int32 `[size, size]`.
    """
    y, x = (64 * (plane + 0.5) / size for plane in np.mgrid[:size, :size])
    label = np.zeros((size, size), np.int32)
    label[np.hypot(y - 22, x - 21) < 14] = 1
    for left, width in ((40, 2), (45, 3), (51, 5)):
        label[(x >= left) & (x < left + width) & (y >= 5) & (y < 36)] = 2
    radius = np.hypot(y - 48, x - 26)
    label[(radius < 12) & (radius > 7)] = 3
    label[(y >= 50) & (y < 52) & (x >= 40) & (x < 61)] = 2
    return label
