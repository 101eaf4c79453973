"""Where to cut tiles so that a tiled prediction equals that of the whole image.

A network that pools is not shift invariant: moved by one pixel, its pooling windows
fall on other pairs, and the output changes. It is invariant under shifts by its
*stride* (the product of its pooling steps). Tiles therefore agree with one pass over
the whole image if, and only if, all of them start at multiples of the stride. The
overlap-tile strategy of Ronneberger et al. (2015, arXiv 1505.04597, Fig. 2) leaves
this open: their tile gives 388 pixels, which is not a multiple of 16, so tiles set side by
side at 388 have different pooling phases; at 384 they are exact.

The whole image itself is mirrored once, to the *canvas*, and all tiles are cut from the
canvas. Three coordinates occur, and `plan` is the one place that converts them:

- canvas: `[0, canvas_side)`; canvas pixel c shows image pixel `c - margin`, mirrored;
- output of the canvas: pixel o belongs to image pixel o, and the excess is cut off;
- output of a tile: pixel o of the tile that starts at s is pixel `s + o` of the above.

All of this holds for each axis on its own: a picture takes one plan per axis.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.geometry.input_sizes import Geometry

WHOLE_INPUT_SIDE = 1024
"""Input side, in pixels, up to which images are taken whole when nobody asks for tiles.

There the 64-feature U-Net takes 1.2 GB in float32 on a CPU.
"""

TILE_INPUT_SIDE = 896
"""Input side of the tiles of larger images, which have pages in memory besides."""

SIDE_STEPS = 4
"""Number of strides that free tile sides are rounded up to, to compile fewer shapes."""


@dataclasses.dataclass(frozen=True)
class Window:
    """One tile along one axis; all intervals are `[start, stop)` in pixels.

    Attributes:
      start: first input pixel, in canvas coordinates.
      stop: end of the input, in canvas coordinates.
      trusted: part of the tile's output that is used.
      target: where that part goes, in image coordinates; as long as `trusted`.
    """

    start: int
    stop: int
    trusted: slice
    target: slice


@dataclasses.dataclass(frozen=True)
class Plan:
    """All tiles along one axis.

    Attributes:
      image_side: pixels of the image.
      canvas_side: pixels of the mirrored image that the network would see whole.
      tile_side: input pixels of each tile, the same for all.
      margin: canvas pixels before the first image pixel.
      windows: the tiles from left to right. Their targets follow each other without
        gap or overlap and fill the image.
    """

    image_side: int
    canvas_side: int
    tile_side: int
    margin: int
    windows: tuple[Window, ...]

    def source(self, window: Window) -> np.ndarray:
        """The image pixels that a tile shows, mirrored at the borders.

        Returns:
          indices `[tile_side]` into the image's axis.
        """
        first, last = window.start - self.margin, window.stop - self.margin
        return mirror_indices(first, last, self.image_side)


def mirror_indices(start: int, stop: int, side: int) -> np.ndarray:
    """Pixels `[start, stop)` of an image axis mirrored without end at its borders.

    The border pixel is the mirror and is not repeated (NumPy's "reflect"). An image
    smaller than what is asked for is mirrored again and again.

    Args:
      start: first position, may be negative.
      stop: end of the positions, may lie beyond `side`.
      side: pixels of the image along this axis.

    Returns:
      indices `[stop - start]` in `[0, side)`.

    Example:
      >>> mirror_indices(-3, 6, 4).tolist()
      [3, 2, 1, 0, 1, 2, 3, 2, 1]
    """
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    position = np.arange(start, stop)
    if side == 1:
        return np.zeros_like(position)
    position = np.abs(position) % (2 * side - 2)
    return np.minimum(position, 2 * side - 2 - position)


def plan(geometry: Geometry, image_side: int, tile: int | None = None) -> Plan:
    """Lays tiles over one axis of an image, such that tiled equals whole.

    The whole is the image mirrored to the smallest accepted canvas: at both borders by
    the margin where the network is not padded, and at the end up to an accepted side. All
    tiles have one side and start at multiples of the stride; the last one is moved
    back to the end of the canvas, which is a multiple of the stride, too, since both
    sides are accepted. Where a tile ends inside the canvas, `halo` pixels of its output
    are left to its neighbour.

    An image smaller than the tile gets one smaller tile. Without halo that tile is
    rounded up to `SIDE_STEPS` strides, which changes no output pixel, so that many
    small images of different sizes share few compiled shapes. With halo it has to be
    the canvas itself, because the place of the zeros matters.

    Args:
      geometry: of the network.
      image_side: pixels of the image along this axis.
      tile: output side of an inner tile in pixels, rounded up to what is possible;
        0 takes the image whole, `None` takes `default_tile`.

    Returns:
      The tiles along this axis: what each reads, keeps and writes.

    Raises:
      ValueError: if tiles are asked of a network that has to see the whole image.

    Example:
      >>> paper = Geometry(stride=16, margin=92, halo=0, minimum=188, offset=60)
      >>> [w.start for w in plan(paper, 1000, tile=388).windows]
      [0, 384, 624]
    """
    if image_side < 1:
        raise ValueError(f"image_side must be at least 1, got {image_side}")
    if tile is None:
        tile = default_tile(geometry, image_side)
    if tile < 0:
        raise ValueError(f"tile must be >= 0 (0: the whole image), got {tile}")
    if tile and not geometry.tiles:
        raise ValueError(
            f"tile must be 0 (the whole image), got {tile}: each output pixel of this "
            "network sees the whole image, so tiles would change the result"
        )
    geometry = geometry.at(image_side)
    canvas = _canvas_side(geometry, image_side)
    side = tile_input_side(geometry, tile) if tile else canvas
    if tile and side >= canvas:
        rounded = canvas if geometry.halo else _rounded_up(geometry, canvas)
        side = canvas = min(side, rounded)
    windows = _windows(geometry, image_side, canvas, side)
    return Plan(image_side, canvas, side, geometry.margin, windows)


def tile_input_side(geometry: Geometry, tile: int) -> int:
    """Input side of the smallest tile that gives `tile` right pixels on all its own.

    At least one stride of output, since tiles cannot be set closer than that.
    """
    return geometry.next_accepted(max(tile, geometry.stride) + _lost(geometry))


def default_tile(geometry: Geometry, image_side: int) -> int:
    """A tile that wastes little on an image of this side, as an output side.

    The whole image up to `WHOLE_INPUT_SIDE` input pixels (more for a network that loses
    more than half of that). Above, the number of tiles is what tiles of `TILE_INPUT_SIDE`
    need, and the tile is the smallest that gets by with that number.

    Args:
      geometry: of the network.
      image_side: pixels of the image along this axis.

    Returns:
      output side in pixels, for `plan`; 0 for a network that has to see it whole.
    """
    if not geometry.tiles:
        return 0
    geometry = geometry.at(image_side)
    lost = _lost(geometry)
    whole, limit = (
        tile_input_side(geometry, max(side - lost, lost))
        for side in (WHOLE_INPUT_SIDE, TILE_INPUT_SIDE)
    )
    canvas = _canvas_side(geometry, image_side)
    if canvas <= whole:
        return whole - lost
    count = _count(geometry, canvas, limit)
    side = tile_input_side(geometry, 1)
    while _count(geometry, canvas, side) > count:
        side += geometry.stride
    return min(limit, _rounded_up(geometry, side)) - lost


def _lost(geometry: Geometry) -> int:
    """Input pixels of an inner tile beyond its right output pixels."""
    return 2 * (geometry.margin + (geometry.halo or 0))


def _canvas_side(geometry: Geometry, image_side: int) -> int:
    return geometry.next_accepted(image_side + 2 * geometry.margin)


def _rounded_up(geometry: Geometry, side: int) -> int:
    """The next accepted side whose output is at least whole steps of `SIDE_STEPS`."""
    quantum = SIDE_STEPS * geometry.stride
    output = side - 2 * geometry.margin - geometry.stride + 1
    return max(
        side,
        geometry.next_accepted(-(-output // quantum) * quantum + 2 * geometry.margin),
    )


def _step(geometry: Geometry, side: int) -> int:
    """The largest distance of two tiles that leaves no gap."""
    return (side - _lost(geometry)) // geometry.stride * geometry.stride


def _count(geometry: Geometry, canvas: int, side: int) -> int:
    return 1 + max(0, -(-(canvas - side) // _step(geometry, side)))


def _windows(
    geometry: Geometry, image_side: int, canvas: int, side: int
) -> tuple[Window, ...]:
    starts = [0]
    if canvas > side:
        starts = list(range(0, canvas - side, _step(geometry, side)))
        starts.append(canvas - side)
    windows, done = [], 0
    for start in starts:
        stop = start + side
        inner = stop < canvas
        end = stop - 2 * geometry.margin - ((geometry.halo or 0) if inner else 0)
        end = min(end, image_side)
        trusted = slice(done - start, end - start)
        windows.append(Window(start, stop, trusted, slice(done, end)))
        done = end
    return tuple(windows)
