"""Spatial pyramid pooling of boxes: one map for the image, one vector for each box.

He, Zhang, Ren, Sun, ECCV 2014, "Spatial pyramid pooling in deep convolutional networks
for visual recognition", arXiv 1406.4729, section 4 and appendix A; formulas and numbers
are those of the authors' release, SPP_net. A box picks the image scale that suits it
(`nearest_scale`), becomes cells of the map (`box_to_cells`), and those are pooled
(`pyramid_pool_cells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.pooling.spatial_pyramid import check_levels
from segjax.types import Array

RELEASED_SCALES = (480, 576, 688, 874, 1200)
"""Shorter sides of the image in the release's detector; the paper has 864 for 874."""


def pyramid_pool_cells(
    x: Array, cells: Array, *, levels: Sequence[int] = (6, 3, 2, 1)
) -> Array:
    """Pools rectangles of one map, as the release's detector does with its proposals.

    Bins are placed in each rectangle by the rule "adaptive". Shapes are static, though
    the rectangles are not: every bin looks at the whole map through a mask, one
    rectangle after the other, so a small one costs as much as a large one. The gradient
    goes to the first maximum of each bin.

    Args:
      x: one map `[H, W, C]`, floating point; for several, `jax.vmap`.
      cells: rectangles `[N, 4]`, integers `(y0, x0, y1, x1)`, end exclusive, inside of
        the map and not empty, as from `box_to_cells`.
      levels: bins along each side, by level.

    Returns:
      `[N, bins * C]`, of the dtype of `x`, in the order of `spatial_pyramid_pool`.

    Raises:
      ValueError: if `x` or `cells` is of another shape or dtype, or there is no level.

    Example:
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> pyramid_pool_cells(x, jnp.array([[0, 0, 2, 3]]), levels=(2, 1)).tolist()
      [[1.0, 2.0, 5.0, 6.0, 6.0]]
    """
    if x.ndim != 3 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x is {x.dtype} {x.shape}; allowed is a map [H, W, C] of real numbers"
        )
    if cells.shape[1:] != (4,) or not jnp.issubdtype(cells.dtype, jnp.integer):
        raise ValueError(
            f"cells is {cells.dtype} {cells.shape}; allowed are integers [N, 4]"
        )
    check_levels(levels)

    def pool(cell: Array) -> Array:
        parts = []
        for level in levels:
            maxima = _masked_maxima(x, 1, cell[1], cell[3], level)
            maxima = _masked_maxima(maxima, 0, cell[0], cell[2], level)
            parts.append(maxima.ravel())
        return jnp.concatenate(parts)

    return lax.map(pool, cells)


@partial(jax.custom_jvp, nondiff_argnums=(1, 4))
def _masked_maxima(x: Array, axis: int, start: Array, stop: Array, level: int) -> Array:
    """Maximum of each bin of `[start, stop)` of one axis of `[H, W, C]`."""
    seen, _ = _look(x, axis, start, stop, level)
    return jnp.moveaxis(seen.max(1 + axis), 0, axis)


@_masked_maxima.defjvp
def _masked_maxima_jvp(
    axis: int,
    level: int,
    primals: tuple[Array, Array, Array],
    tangents: tuple[Array, Array, Array],
) -> tuple[Array, Array]:
    # Finding the position of a maximum costs many times the maximum itself, so it is
    # looked for only where there is a gradient. That is then a copy, in a fixed order.
    x, start, stop = primals
    seen, first = _look(x, axis, start, stop, level)
    # Of -inf alone the winner is the bin's own first pixel, and none outside of it.
    winner = jnp.maximum(jnp.argmax(seen, 1 + axis, keepdims=True), first)
    pixel = lax.broadcasted_iota(winner.dtype, seen.shape, 1 + axis)
    moved = jnp.where(pixel == winner, tangents[0][None], 0).sum(1 + axis)
    return _masked_maxima(x, axis, start, stop, level), jnp.moveaxis(moved, 0, axis)


def _look(
    x: Array, axis: int, start: Array, stop: Array, level: int
) -> tuple[Array, Array]:
    """The pixels of each bin, `[level, H, W, C]`, -inf elsewhere, and its first pixel."""
    bins = np.arange(level).reshape(-1, 1, 1, 1)
    shape = [1, 1, 1, 1]
    shape[1 + axis] = -1
    pixel = np.arange(x.shape[axis]).reshape(shape)
    length = stop - start
    first = start + bins * length // level
    inside = (pixel >= first) & (pixel < start - (-(bins + 1) * length // level))
    return jnp.where(inside, x[None], -jnp.inf), first


def box_to_cells(
    boxes: Array,
    *,
    size: tuple[int, int],
    stride: int = 16,
    first: float = 20.0,
    offset: float = 6.5,
) -> Array:
    """Maps boxes of the image to the cells of the map that answer for them.

    Along each axis a box from `x0` to `x1` becomes the cells from
    `floor((x0 - first + offset) / stride + 1/2)` up to but without
    `ceil((x1 - 1 - first - offset) / stride - 1/2) + 1`. A box that comes out inverted
    becomes the one cell in the middle, and what leaves the map is moved to its border.
    This is the release's formula; there pixels and cells count from 1 and ends belong
    to the box, so its `offset0` of 21 is our `first` of 20.

    Args:
      boxes: `[N, 4]`, `(y0, x0, y1, x1)` in pixels of the resized image, end exclusive.
      size: height and width of the map, cells.
      stride: pixels from one cell to the next.
      first: pixel in the centre of the first cell, from 0; 20 is that of ZF-5.
      offset: pixels by which both ends of the box move inwards before the cells with
        the nearest centres are taken; 6.5 is that of ZF-5.

    Returns:
      `[N, 4]` int32, cells `(y0, x0, y1, x1)`, end exclusive, none empty.

    Raises:
      ValueError: if `boxes` is of another shape, or `size` or `stride` is below 1.

    Example:
      >>> boxes = jnp.array([[0.0, 0.0, 224.0, 224.0], [100.0, 100.0, 108.0, 140.0]])
      >>> box_to_cells(boxes, size=(13, 13)).tolist()
      [[0, 0, 13, 13], [5, 5, 6, 8]]
    """
    _check_boxes(boxes)
    if min(*size, stride) < 1:
        raise ValueError(
            f"size is {size} and stride {stride}; both must be at least 1 everywhere"
        )
    boxes = boxes.astype(jnp.promote_types(boxes.dtype, jnp.float32))
    start = jnp.floor((boxes[:, :2] - first + offset) / stride + 0.5)
    stop = jnp.ceil((boxes[:, 2:] - 1 - first - offset) / stride - 0.5) + 1
    start, stop = start.astype(jnp.int32), stop.astype(jnp.int32)
    # The release takes the mean of both ends counted from 1: `start + 1` and `stop`.
    middle = (start + 1 + stop) // 2
    inverted = start >= stop
    low = jnp.where(inverted, middle, start + 1)
    high = jnp.where(inverted, middle, stop)
    limit = np.asarray(size, np.int32)[None]
    low, high = (jnp.clip(end, 1, limit) for end in (low, high))
    return jnp.concatenate([low - 1, high], 1)


def nearest_scale(
    boxes: Array,
    *,
    image_size: tuple[int, int],
    scales: Sequence[int] = RELEASED_SCALES,
    side: float = 224.0,
) -> Array:
    """Chooses for each box the image scale at which its area is closest to `side`^2.

    At scale `s` the image is resized so that its shorter side has `s` pixels. The paper
    (section 4.1) compares areas with 224^2, as is done here. The release compares
    scales, `s` with `208 min(H, W) / sqrt(area)` rounded, 208 being 13 cells of 16
    pixels; among the scales below it so takes the same one or a smaller one.

    Args:
      boxes: `[N, 4]`, `(y0, x0, y1, x1)` in pixels of the image before it is resized,
        end exclusive.
      image_size: height and width of that image, pixels.
      scales: lengths of the shorter side, pixels.
      side: side of the square that is aimed at, pixels.

    Returns:
      `[N]` int32, positions in `scales`; of equally near ones the first.

    Raises:
      ValueError: if `boxes` is of another shape, or a size or scale is not positive.

    Example:
      >>> boxes = jnp.array([[0.0, 0.0, 375.0, 500.0], [10.0, 10.0, 80.0, 90.0]])
      >>> nearest_scale(boxes, image_size=(375, 500)).tolist()
      [0, 4]
    """
    _check_boxes(boxes)
    if not scales or min(*scales, *image_size, side) <= 0:
        raise ValueError(
            f"image_size is {image_size}, scales {scales} and side {side}; allowed are "
            "positive numbers, and at least one scale"
        )
    boxes = boxes.astype(jnp.promote_types(boxes.dtype, jnp.float32))
    extent = boxes[:, 2:] - boxes[:, :2]
    factors = np.square(np.asarray(scales, float) / min(image_size)) / side**2
    areas = (extent[:, 0] * extent[:, 1])[:, None] * factors.astype(boxes.dtype)[None]
    return jnp.argmin(jnp.abs(areas - 1), 1).astype(jnp.int32)


def _check_boxes(boxes: Array) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes is {boxes.shape}; allowed is [N, 4]")
