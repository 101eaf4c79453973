"""Outlines as COCO renders them: from polygons to the pixels that they enclose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.rle import Rle, from_positions, union

_FINENESS = 5
"""Steps of a pixel in which an outline is rendered."""

_MIDDLE = _FINENESS // 2
"""Of a column of pixels, in these steps: the last one left of its centre."""

_LARGEST = 1e9
"""Coordinates below it are distinguished exactly in these steps."""

_PART = 1 << 20
"""Columns crossed by as many lines as are handled at once."""


def polygon_to_rle(points: Sequence[float], size: tuple[int, int]) -> Rle:
    """Fills a polygon, pixel by pixel as COCO's own tools do (`rleFrPoly`).

    The outline is rendered as straight lines on a grid that is five times finer; where it
    crosses the middle of a column of pixels, the column changes from outside to inside
    at the first pixel whose centre lies below.

    Args:
      points: `x0, y0, x1, y1, ...` in pixels, three points or more.
      size: `(height, width)` of the image.

    Returns:
      The mask; what lies outside of the image is cut off, and takes no memory.

    Raises:
      ValueError: if a coordinate is not finite, or larger than any image.

    Example:
      >>> from segjax.rle import decode
      >>> decode(polygon_to_rle([1, 1, 3, 1, 3, 2, 1, 2], (3, 4))).astype(int).tolist()
      [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    try:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise ValueError(
            f"points must be finite and below {_LARGEST:g}, got more"
        ) from error
    if not (np.abs(corners) < _LARGEST).all():
        raise ValueError(f"points must be finite and below {_LARGEST:g}, got {points}")
    # Towards zero, as C turns numbers into integers.
    starts = (_FINENESS * corners + 0.5).astype(np.int64)
    ends = np.concatenate([starts[1:], starts[:1]])
    crossed = _columns(starts, ends, size[1])[1]
    part = (crossed.cumsum() - crossed) // _PART
    cuts = np.flatnonzero(np.diff(part)) + 1
    kept, pending = np.zeros(0, np.int64), []
    for some, others in zip(np.split(starts, cuts), np.split(ends, cuts), strict=True):
        pending.append(_changes(some, others, size))
        # What cancels goes, so that about twice as much is kept as an image holds. Not at
        # once: each time all of it is sorted.
        if sum(map(len, pending)) > max(_PART, len(kept)):
            joined = from_positions(np.concatenate([kept, *pending]), size)
            kept, pending = joined.counts.cumsum()[:-1], []
    return from_positions(np.concatenate([kept, *pending]), size)


def polygons_to_rle(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Rle:
    """Fills the polygons of one object, of `(height, width)`, and joins them."""
    return union([polygon_to_rle(points, size) for points in polygons])


def _columns(
    starts: np.ndarray, ends: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of lines as for `_changes`, the first column that each crosses and how many, `[N]`."""
    low = np.minimum(starts[:, 0], ends[:, 0])
    high = np.maximum(starts[:, 0], ends[:, 0])
    leftmost = np.maximum((low - _MIDDLE + _FINENESS - 1) // _FINENESS, 0)
    rightmost = np.minimum((high - 1 - _MIDDLE) // _FINENESS, width - 1)
    return leftmost, np.maximum(rightmost - leftmost + 1, 0)


def _changes(starts: np.ndarray, ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where straight lines between whole points cross the centres of columns.

    A line is rendered from the smaller end of its longer axis, whichever it starts from,
    so that it has the same points in both directions.

    Args:
      starts: of the lines, x and y in steps, int64 `[N, 2]`.
      ends: of the lines.
      size: `(height, width)` of the image.

    Returns:
      Positions `y + H * x`, int64; one for each line and column of the image that it
      crosses.
    """
    height, width = size
    extent = np.abs(ends - starts)
    steps = extent.max(1)
    steep = extent[:, 0] < steps
    leftmost, counts = _columns(starts, ends, width)
    line = np.repeat(np.arange(len(starts)), counts)
    column = np.arange(len(line)) - (counts.cumsum() - counts - leftmost)[line]
    left = _FINENESS * column + _MIDDLE

    falls = ends < starts
    flip = np.where(steep, falls[:, 1], falls[:, 0])
    first = np.where(flip[:, None], ends, starts)
    rise = np.where(steep, extent[:, 0], extent[:, 1])
    rise = np.where(falls[:, 0] ^ falls[:, 1], -rise, rise)
    slope = (rise / np.maximum(steps, 1))[line]
    (x, y), steep = first[line].T, steep[line]
    origin = np.where(steep, x, y)

    def other(at: np.ndarray) -> np.ndarray:
        """The shorter axis of points by their numbers, not yet cut to integers."""
        return origin + slope * at + 0.5

    at = left - x
    top = np.minimum(other(at).astype(np.int64), other(at + 1).astype(np.int64))
    if steep.any():
        # Of a steep line, the last point before it crosses: about where the quotient is.
        safe = np.where(steep, slope, 1)
        at = np.floor((left + 0.5 - origin) / safe).astype(np.int64) - 1
        at = np.maximum(np.minimum(at, steps[line] - 1), 0)
        for _ in range(2):
            crossed = (other(at + 1) >= left + 1) == (slope > 0)
            at = at + ~crossed
        top = np.where(steep, y + at, top)
    row = np.ceil((top + 0.5) / _FINENESS - 0.5)
    row = np.maximum(np.minimum(row, height), 0)
    return column * height + row.astype(np.int64)
