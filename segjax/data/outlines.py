"""Outlines of objects: what they enclose, and those of a label image.

They are polygons in pixels, as ImageJ and QuPath have them: the first pixel spans from 0 to
1, so that its centre is at 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segjax.data.files.layout import Layout
from segjax.errors import UserError

Polygon = tuple[np.ndarray, ...]
"""Rings of points (x, y), float64 `[N, 2]`: what is enclosed by an odd number of them."""

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Right, down, left, up: each is a turn to the right from the one before."""

LARGEST = 1e6
"""Coordinates are below it, pixels."""

_MOST_CROSSINGS = 1 << 20
"""Of lines and rows that are handled at once."""

_MOST_NUMBERS = 1 << 22
"""For larger numbers of objects than that, those that occur are counted first."""


@dataclass(frozen=True)
class Outline:
    """The outline of one object.

    Attributes:
      polygons: its parts.
      name: what the file calls it.
      class_name: of its class, where the file says it.
      page: of the image, from 0; None for all pages, or where `place` is given.
      place: its slice (Z) and frame (T), from 0.
    """

    polygons: tuple[Polygon, ...]
    name: str = ""
    class_name: str | None = None
    page: int | None = None
    place: tuple[int, int] | None = None


def page_of(outline: Outline, layout: Layout, where: str) -> int | None:
    """The page that an outline belongs to.

    Args:
      outline: the outline.
      layout: of the image.
      where: what to call the file of the outline in an error.

    Returns:
      The page, from 0; None for all pages.

    Raises:
      UserError: the image has no such slice or frame.

    Example:
      >>> page_of(Outline((), place=(2, 1)), Layout(axes="TZ", sizes=(2, 5)), "a.roi")
      7
    """
    if outline.place is None:
        return outline.page
    z, t = outline.place
    axes, sizes = layout.axes, layout.sizes
    if not axes and not (z and t):
        return max(z, t)
    places = [{"Z": z, "T": t}.get(axis, 0) for axis in axes]
    inside = all(place < size for place, size in zip(places, sizes, strict=True))
    if not inside or (z and "Z" not in axes) or (t and "T" not in axes):
        has = ", ".join(f"{n} {a}" for a, n in zip(axes, sizes, strict=True))
        raise UserError(
            f"{where} has the outline {outline.name!r} on slice {z + 1} and frame {t + 1}, "
            f"but the image has {has or 'no such axes'}. Give each image the file that was "
            "made for it."
        )
    return int(np.ravel_multi_index(places, sizes))


def place_of(page: int, layout: Layout) -> tuple[int, int] | None:
    """The slice and the frame of a page, from 0; None where they do not say which it is.

    Example:
      >>> place_of(7, Layout(axes="TZ", sizes=(2, 5)))
      (2, 1)
    """
    along = {x for x, n in zip(layout.axes, layout.sizes, strict=True) if n > 1}
    if not along or not along <= {"T", "Z"}:
        return None
    at = np.unravel_index(page, layout.sizes)
    places = dict(zip(layout.axes, map(int, at), strict=True))
    return places.get("Z", 0), places.get("T", 0)


def fill(
    outline: Outline, size: tuple[int, int], where: str
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The pixels whose centres an outline encloses, as ImageJ and QuPath fill it.

    Args:
      outline: the outline.
      size: `(height, width)` of the image.
      where: what to call the file in an error.

    Returns:
      Rows and columns of the part of the image that it lies in, and bool `[h, w]` for them.

    Raises:
      UserError: it encloses no pixel, or lies outside of the image.

    Example:
      >>> ring = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 9.0], [1.0, 9.0]])
      >>> fill(Outline(((ring,),)), (4, 8), "a.roi")[0]
      (slice(0, 4, None), slice(1, 3, None))
    """
    rings = [ring for polygon in outline.polygons for ring in polygon if len(ring)]
    points = np.concatenate(rings) if rings else np.zeros((1, 2))
    limit = np.array(size[::-1])
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    left, top = np.maximum(low, 0).tolist()
    right, bottom = np.minimum(high, limit).tolist()
    crop = (max(0, bottom - top), max(0, right - left))
    mask = np.zeros(crop, bool)
    for polygon in outline.polygons if mask.size else ():
        mask |= _inside([ring - (left, top) for ring in polygon if len(ring) > 2], crop)
    if not mask.any():
        called = f"{where} has the outline {outline.name!r}, which"
        if (low < 0).any() or (high > limit).any():
            raise UserError(
                f"{called} lies outside of the image ({size[0]} high x {size[1]} wide): x "
                f"from {low[0]} to {high[0]}, y from {low[1]} to {high[1]} pixels. Give the "
                "image the file that was made for it, or remove the outline."
            )
        raise UserError(f"{called} is empty: it encloses no pixel. Remove it.")
    return (slice(top, bottom), slice(left, right)), mask


def _inside(rings: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres are enclosed by an odd number of rings, bool `[H, W]`."""
    height, width = size
    changes = np.zeros((height, width + 1), np.int64)
    if rings:
        starts = np.concatenate(rings)
        ends = np.concatenate([np.roll(ring, -1, 0) for ring in rings])
        y0, y1 = starts[:, 1], ends[:, 1]
        first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(int)
        last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(int)
        slope = (ends[:, 0] - starts[:, 0]) / np.where(y1 == y0, 1, y1 - y0)
        # At the centres of each row, lines change outside to inside, or back.
        part = np.cumsum(last - first) // _MOST_CROSSINGS
        for lines in np.split(
            np.arange(len(starts)), np.flatnonzero(np.diff(part)) + 1
        ):
            counts = last[lines] - first[lines]
            line = np.repeat(lines, counts)
            row = np.arange(len(line)) - np.repeat(counts.cumsum() - counts, counts)
            row += first[line]
            x = starts[line, 0] + (row + 0.5 - y0[line]) * slope[line]
            column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
            places = row * (width + 1) + column
            changes += np.bincount(places, minlength=changes.size).reshape(
                changes.shape
            )
    return changes[:, :-1].cumsum(1) % 2 == 1


def outlines_of(
    numbers: np.ndarray,
    *,
    page: int | None = None,
    place: tuple[int, int] | None = None,
    class_names: Mapping[int, str] | None = None,
) -> Iterator[Outline]:
    """The outlines of the objects of a label image, along the edges of pixels.

    Args:
      numbers: of the objects, integers `[H, W]`; 0 is none.
      page: of the image, from 0; None where it has one.
      place: what `place_of` says of the page.
      class_names: of the objects, by number.

    Yields:
      An outline for each number, in their order, named by it. `fill` gives its pixels.

    Example:
      >>> (cell,) = outlines_of(np.array([[0, 3, 3]]))
      >>> cell.name, cell.polygons[0][0].tolist()
      ('3', [[1.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0]])
    """
    ranks, values = numbers, range(int(numbers.max(initial=0)) + 1)
    if len(values) > _MOST_NUMBERS:
        flat = np.append(0, numbers.astype(np.int64))
        found, positions = np.unique(flat, return_inverse=True)
        ranks, values = positions.ravel()[1:].reshape(numbers.shape), found.tolist()
    for rank, box in enumerate(ndimage.find_objects(ranks), 1):
        if box is not None:
            value, corner = int(values[rank]), (box[1].start, box[0].start)
            name = None if class_names is None else class_names.get(value)
            polygons = _traced(ranks[box] == rank, corner)
            yield Outline(polygons, str(value), name, page, place)


def _traced(mask: np.ndarray, origin: tuple[int, int]) -> tuple[Polygon, ...]:
    """The outlines of a mask, a polygon for each part whose pixels share edges."""
    parts, _ = ndimage.label(mask)
    polygons = []
    for k, place in enumerate(ndimage.find_objects(parts), 1):
        corner = np.add(origin, (place[1].start, place[0].start))
        rings = [np.array(ring, float) for ring in _rings(parts[place] == k)]
        rings.sort(key=_area, reverse=True)  # that of holes is negative
        polygons.append(tuple(ring + corner for ring in rings))
    return tuple(polygons)


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _rings(mask: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """Corners of the lines between a mask and the rest, which is at their left hand."""
    inside = np.pad(mask, 1)
    edges: dict[tuple[int, int, int], None] = {}
    for direction, (shift, axis, (x, y)) in enumerate(
        ((1, 0, (0, 0)), (-1, 1, (1, 0)), (-1, 0, (1, 1)), (1, 1, (0, 1)))
    ):
        rows, columns = np.nonzero((inside & ~np.roll(inside, shift, axis))[1:-1, 1:-1])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            edges[column + x, row + y, direction] = None
    while edges:
        x, y, direction = edges.popitem()[0]
        ring: list[tuple[int, int]] = []
        passed: dict[tuple[int, int], int] = {}
        first = (x, y, direction)
        while True:
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
            # Right first: where pixels meet at a corner alone, they are told apart.
            turn = next(
                turn
                for turn in (1, 0, 3)
                if (edge := (x, y, (direction + turn) % 4)) in edges or edge == first
            )
            if turn:
                # A ring that touches itself is two, which readers of polygons demand.
                if (place := passed.get((x, y))) is not None:
                    yield ring[place:]
                    for corner in ring[place:]:
                        del passed[corner]
                    del ring[place:]
                passed[x, y] = len(ring)
                ring.append((x, y))
            direction = (direction + turn) % 4
            if (x, y, direction) == first:
                break
            del edges[x, y, direction]
        yield ring
