"""RoIPool: regions of feature maps, rounded to whole cells and pooled by their maximum.

Girshick, ICCV 2015, arXiv 1504.08083, section 2.1: what RoIAlign was compared with. The
numbers are those of torchvision's kernel. Both ends of a box are rounded and belong to
it; bins are rounded outwards, and may share a cell. The gradient goes to the first
maximum of each bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import Pair, pair
from segjax.ops.regions.alignment import pyramid_level
from segjax.ops.regions.feature_table import (
    FORWARD_CHUNK,
    check_regions,
    cut,
    flatten,
    no_gradient,
    over_chunks,
    shape_of,
    split,
    zeros_like_table,
)
from segjax.types import Array


class _Bins(NamedTuple):
    """Bins of regions in a table of maps.

    Attributes:
      row: first row of each bin and the one behind its last, `[R, sh, 2]` int32.
      column: the same of columns, `[R, sw, 2]`.
      width: of the map, `[R]`.
      offset: row of the table at which the map begins, `[R]`.
    """

    row: Array
    column: Array
    width: Array
    offset: Array


def roi_pool(features: Array, boxes: Array, *, size: Pair, scale: float) -> Array:
    """Takes the maximum of each of `size` bins of each box of one map.

    Args:
      features: `[B, h, w, C]`, floating point.
      boxes: `[B, R, 4]` in pixels of the image.
      size: bins along height and width; one number for both.
      scale: cells of the map per pixel of the image, 1 / stride.

    Returns:
      `[B, R, *size, C]`, of the dtype of `features`; 0 in bins outside of the map.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> ramp = 6 * jnp.arange(6.0)[:, None] + jnp.arange(6.0)[None]
      >>> boxes = jnp.array([[[1.0, 1.0, 3.0, 4.0]]])
      >>> roi_pool(ramp[None, ..., None], boxes, size=2, scale=1)[0, 0, :, :, 0].tolist()
      [[14.0, 16.0], [20.0, 22.0]]
    """
    levels = jnp.zeros_like(boxes[..., 0], jnp.int32)
    return _pool((features,), boxes, levels, pair("size", size, 1), (scale,))


def pyramid_roi_pool(
    features: Sequence[Array],
    boxes: Array,
    *,
    size: Pair,
    strides: Sequence[float],
    canonical_size: float = 224.0,
    canonical_level: int = 4,
    first_level: int = 2,
) -> Array:
    """Pools each box from the level of a feature pyramid that suits its size.

    The level is that of `pyramid_level`; the rest is `roi_pool`.

    Args:
      features: maps `[B, h, w, C]`, fine to coarse.
      boxes: `[B, R, 4]` in pixels of the image.
      size: bins along height and width; one number for both.
      strides: pixels of the image per cell, for each map.
      canonical_size: side of the box, pixels, that belongs to `canonical_level`.
      canonical_level: level of such a box.
      first_level: level of the first map.

    Returns:
      `[B, R, *size, C]`, of the dtype of `features`; 0 in bins outside of the map.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> pyramid = [jnp.full((1, 32, 32, 1), 2.0), jnp.full((1, 16, 16, 1), 3.0)]
      >>> boxes = jnp.array([[[0.0, 0, 110, 110], [0, 0, 120, 110]]])
      >>> pyramid_roi_pool(pyramid, boxes, size=1, strides=(4, 8)).ravel().tolist()
      [2.0, 3.0]
    """
    levels = pyramid_level(
        boxes,
        count=len(features),
        canonical_size=canonical_size,
        canonical_level=canonical_level,
        first_level=first_level,
    )
    scales = tuple(1 / stride for stride in strides)
    return _pool(features, boxes, levels, pair("size", size, 1), scales)


@partial(jax.jit, static_argnames=("size", "scales"))
def _pool(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    size: tuple[int, int],
    scales: tuple[float, ...],
) -> Array:
    check_regions(features, boxes, scales)

    def of_one_image(maps: Sequence[Array], boxes: Array, levels: Array) -> Array:
        scale = jnp.asarray(scales, jnp.float32)[levels][:, None]
        scaled = lax.stop_gradient(boxes).astype(jnp.float32) * scale
        # Half away from zero, as C rounds; `jnp.round` would take the even one.
        cells = jnp.trunc(scaled + jnp.copysign(0.5, scaled)).astype(jnp.int32)
        table, map_size, offset = flatten(maps, levels)
        rows, columns = (
            _bins(cells[:, axis], cells[:, 2 + axis], size[axis], map_size[:, axis])
            for axis in range(2)
        )
        return _maxima(table, _Bins(rows, columns, map_size[:, 1], offset))

    return jax.vmap(of_one_image)(tuple(features), boxes, levels)


def _bins(first: Array, last: Array, count: int, limit: Array) -> Array:
    """First cell of each bin and the one behind its last, `[R, count, 2]`."""
    length = jnp.maximum(last - first + 1, 1)[:, None]
    i = np.arange(count, dtype=np.int32)[None]
    start = first[:, None] + i * length // count
    stop = first[:, None] - (-(i + 1) * length // count)
    both = jnp.stack([start, stop], -1)
    return jnp.clip(both, 0, limit[:, None, None])


def _rounds(bins: _Bins) -> tuple[Array, Array]:
    """Cells of the largest bin of a chunk, along both axes."""
    high = jnp.diff(bins.row, axis=-1).max()
    wide = jnp.diff(bins.column, axis=-1).max()
    return jnp.maximum(high, 0), jnp.maximum(wide, 0)


def _cell(bins: _Bins, y: Array, x: Array) -> tuple[Array, Array]:
    """Row of the table of cell `(y, x)` of every bin, and whether there is one."""
    row, column = bins.row[..., 0] + y, bins.column[..., 0] + x
    inside = (row < bins.row[..., 1])[:, :, None] & (column < bins.column[..., 1])[
        :, None
    ]
    width, offset = bins.width[:, None, None], bins.offset[:, None, None]
    index = offset + row[:, :, None] * width + column[:, None]
    return jnp.where(inside, index, 0), inside


@jax.custom_vjp
def _maxima(table: Array, bins: _Bins) -> Array:
    """Maximum of the rows of each bin, `[R, sh, sw, C]`."""
    return _forward(table, bins)[0]


def _forward(table: Array, bins: _Bins) -> tuple[Array, tuple[Array, _Bins, Array]]:
    best, winner = over_chunks(
        lambda part: _first_maximum(table, part), bins, FORWARD_CHUNK
    )
    return best, (shape_of(table), bins, winner)


def _first_maximum(table: Array, bins: _Bins) -> tuple[Array, Array]:
    """Maximum of each bin, 0 of none, and the row that has it, -1 for none."""
    high, wide = _rounds(bins)
    shape = (*bins.row.shape[:2], bins.column.shape[1], table.shape[-1])

    def step(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        best, winner = state
        index, inside = _cell(bins, k // wide, k % wide)
        value = table[index]
        better = inside[..., None] & (value > best)
        return jnp.where(better, value, best), jnp.where(
            better, index[..., None], winner
        )

    start = jnp.full(shape, -jnp.inf, table.dtype), jnp.full(shape, -1, jnp.int32)
    best, winner = lax.fori_loop(0, high * wide, step, start)
    return jnp.where(winner >= 0, best, 0), winner


def _backward(
    residuals: tuple[Array, _Bins, Array], cotangent: Array
) -> tuple[Array, _Bins]:
    shape, bins, winner = residuals
    channels = jnp.arange(cotangent.shape[-1])[None, None, None]
    # Where no row won, one behind the last, which is dropped.
    row = jnp.where(winner < 0, shape.shape[0], winner)

    def scatter(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        row, cotangent = part
        updates = cotangent.astype(total.dtype)
        return total.at[row, channels].add(updates, mode="drop"), None

    nothing = zeros_like_table(shape, cotangent.shape[-1])
    parts = cut((row, cotangent), *split(cotangent.shape[0], FORWARD_CHUNK))
    total, _ = lax.scan(scatter, nothing, parts)
    return total.astype(shape.dtype), no_gradient(bins)


_maxima.defvjp(_forward, _backward)
