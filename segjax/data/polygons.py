"""Outlines as COCO draws them: from polygons to the pixels that they enclose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.rle import Rle, from_positions, union

_FINENESS = 5
"""Steps of a pixel in which an outline is drawn."""


def polygon_to_rle(points: Sequence[float], size: tuple[int, int]) -> Rle:
    """Fills a polygon, pixel by pixel as COCO's own tools do (`rleFrPoly`).

    The outline is drawn by straight lines on a grid that is five times finer; where it
    crosses the middle of a column of pixels, the column changes from outside to inside
    at the first pixel whose centre lies below.

    Args:
      points: `x0, y0, x1, y1, ...` in pixels, three points or more.
      size: `(height, width)` of the image.

    Returns:
      The mask; what lies outside of the image is cut off.

    Example:
      >>> from segjax.rle import decode
      >>> decode(polygon_to_rle([1, 1, 3, 1, 3, 2, 1, 2], (3, 4))).astype(int).tolist()
      [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = size
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    # Towards zero, as C turns numbers into integers.
    corners = (_FINENESS * corners + 0.5).astype(np.int64)
    along, down = _outline(corners, np.roll(corners, -1, axis=0))
    turned = along[1:] != along[:-1]
    left = np.minimum(along[1:], along[:-1])[turned]
    top = np.minimum(down[1:], down[:-1])[turned]
    column = (left + 0.5) / _FINENESS - 0.5
    inside = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.clip((top + 0.5) / _FINENESS - 0.5, 0, height)
    positions = column * height + np.ceil(row)
    return from_positions(positions[inside].astype(np.int64), size)


def polygons_to_rle(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Rle:
    """Fills the polygons of one object, of `(height, width)`, and joins them."""
    return union([polygon_to_rle(points, size) for points in polygons])


def _outline(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole points of straight lines, one after the other, as x and y.

    A line is drawn from the smaller end of its longer axis, whichever it starts from,
    so that it has the same points in both directions.
    """
    steps = np.abs(ends - starts).max(1)
    steep = np.abs(ends - starts)[:, 0] < steps
    long_axis = steep.astype(np.intp)
    lines = np.arange(len(starts))
    flip = starts[lines, long_axis] > ends[lines, long_axis]
    first = np.where(flip[:, None], ends, starts)
    last = np.where(flip[:, None], starts, ends)
    short = (last - first)[lines, 1 - long_axis]
    slope = np.divide(short, steps, out=np.zeros(len(lines)), where=steps > 0)
    owner = np.repeat(lines, steps + 1)
    at = np.arange(len(owner)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    at = np.where(flip[owner], steps[owner] - at, at)
    rising = first[owner, long_axis[owner]] + at
    other = first[owner, 1 - long_axis[owner]] + slope[owner] * at + 0.5
    other = other.astype(np.int64)
    upright = steep[owner]
    return np.where(upright, other, rising), np.where(upright, rising, other)
