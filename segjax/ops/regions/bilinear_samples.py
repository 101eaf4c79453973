"""Bilinear samples of regions in a table of maps, and their gradient.

A bin is the sum of weighted rows of the table: four for each sample. The gradient,
written by hand, adds the cotangent of the bins back to the same rows. On a GPU the order
of these additions is not fixed, unless XLA's flags make it deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.regions.feature_table import (
    BACKWARD_CHUNK,
    FORWARD_CHUNK,
    cut,
    no_gradient,
    over_chunks,
    shape_of,
    split,
    zeros_like_table,
)
from segjax.types import Array


class Regions(NamedTuple):
    """Where regions lie in a table of maps; every field is `[R]` or `[R, 2]`.

    Attributes:
      start: first corner on the map, cells, in coordinates whose pixel centres are whole.
      extent: height and width on the map, cells.
      size: height and width of the map, int32.
      offset: row of the table at which the map begins, int32.
    """

    start: Array
    extent: Array
    size: Array
    offset: Array


class Sampling(NamedTuple):
    """The static sizes: bins along both axes, and samples of a bin along each (0: adaptive)."""

    size: tuple[int, int]
    ratio: int


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def sample_bins(table: Array, regions: Regions, sampling: Sampling) -> Array:
    """Rows of the table `[T, C]`, averaged to `[R, *size, C]`."""
    gather = _gather if sampling.ratio else _gather_adaptive
    return over_chunks(
        lambda part: gather(table, part, sampling), regions, FORWARD_CHUNK
    )


def _corners(position: Array, size: Array) -> tuple[Array, Array]:
    """Cells and bilinear weights of samples of one axis, both with a new axis of two.

    Args:
      position: `[R, ...]`, cells.
      size: `[R]`, of the map.
    """
    size = size.reshape(-1, *(1,) * (position.ndim - 1))
    inside = (position >= -1) & (position <= size)
    position = jnp.clip(position, 0, size - 1)
    low = jnp.floor(position)
    fraction = position - low
    cells = jnp.stack([low, jnp.minimum(low + 1, size - 1)], -1).astype(jnp.int32)
    weights = jnp.stack([1 - fraction, fraction], -1)
    return jnp.maximum(cells, 0), jnp.where(inside[..., None], weights, 0)


def _taps(regions: Regions, axis: int, sampling: Sampling) -> tuple[Array, Array]:
    """Cells and weights of one axis, `[R, bins, 2 ratio]`, for a fixed ratio."""
    bins, ratio = sampling.size[axis], sampling.ratio
    start, extent = (x[:, axis, None] for x in (regions.start, regions.extent))
    place = (np.arange(bins * ratio, dtype=np.float32)[None] + 0.5) / ratio
    position = start + place * (extent / bins)
    cells, weights = _corners(position, regions.size[:, axis])
    shape = (-1, bins, 2 * ratio)
    return cells.reshape(shape), weights.reshape(shape) / ratio


def _gather(table: Array, regions: Regions, sampling: Sampling) -> Array:
    rows, row_weights = _taps(regions, 0, sampling)
    columns, column_weights = _taps(regions, 1, sampling)
    begin = regions.offset[:, None, None] + rows * regions.size[:, 1, None, None]
    total = None
    for a in range(rows.shape[-1]):
        for b in range(columns.shape[-1]):
            index = begin[:, :, None, a] + columns[:, None, :, b]
            weight = row_weights[:, :, None, a] * column_weights[:, None, :, b]
            part = table[index] * weight[..., None]
            total = part if total is None else total + part
    assert total is not None
    return total.astype(table.dtype)


class _Round(NamedTuple):
    """One sample of every bin: its four cells `[R, sh, sw, 2, 2]` and their weights."""

    rows: Array
    weights: Array


def _counts(regions: Regions, sampling: Sampling) -> Array:
    """Samples of a bin along both axes, `[R, 2]`, adaptive."""
    bins = np.asarray(sampling.size, np.float32)[None]
    return jnp.maximum(jnp.ceil(regions.extent / bins), 0).astype(jnp.int32)


def _round(
    regions: Regions, counts: Array, sampling: Sampling, y: Array, x: Array
) -> _Round:
    """Sample `(y, x)` of the bins of every region that has as many."""
    cells, weights = [], []
    for axis, k in enumerate((y, x)):
        bins = sampling.size[axis]
        count = counts[:, axis, None]
        place = np.arange(bins, dtype=np.float32)[None] + (k + 0.5) / jnp.maximum(
            count, 1
        )
        position = regions.start[:, axis, None] + place * (
            regions.extent[:, axis, None] / bins
        )
        cell, weight = _corners(position, regions.size[:, axis])
        cells.append(cell)
        weights.append(
            jnp.where(
                (k < count)[..., None], weight / jnp.maximum(count, 1)[..., None], 0
            )
        )
    width = regions.size[:, 1].reshape(-1, 1, 1, 1, 1)
    index = cells[0][:, :, None, :, None] * width + cells[1][:, None, :, None, :]
    index += regions.offset.reshape(-1, 1, 1, 1, 1)
    return _Round(
        index, weights[0][:, :, None, :, None] * weights[1][:, None, :, None, :]
    )


def _over_rounds(
    regions: Regions,
    sampling: Sampling,
    add: Callable[[Array, _Round], Array],
    total: Array,
) -> Array:
    """Adds up all samples, as many rounds as the largest region of the chunk needs."""
    counts = _counts(regions, sampling)
    high, wide = counts.max(0)

    def step(k: Array, total: Array) -> Array:
        return add(total, _round(regions, counts, sampling, k // wide, k % wide))

    return lax.fori_loop(0, high * wide, step, total)


def _gather_adaptive(table: Array, regions: Regions, sampling: Sampling) -> Array:
    def add(total: Array, part: _Round) -> Array:
        for a in range(2):
            for b in range(2):
                total += table[part.rows[..., a, b]] * part.weights[..., a, b, None]
        return total

    shape = (regions.offset.shape[0], *sampling.size, table.shape[-1])
    total = jnp.zeros(shape, wide_dtype(table))
    return _over_rounds(regions, sampling, add, total).astype(table.dtype)


def _sample_forward(
    table: Array, regions: Regions, sampling: Sampling
) -> tuple[Array, tuple[Regions, Array]]:
    return sample_bins(table, regions, sampling), (regions, shape_of(table))


def _sample_backward(
    sampling: Sampling, residuals: tuple[Regions, Array], cotangent: Array
) -> tuple[Array, Regions]:
    regions, shape = residuals
    chunks, chunk = split(cotangent.shape[0], BACKWARD_CHUNK)
    parts = cut((regions, cotangent), chunks, chunk)
    scatter = _scatter if sampling.ratio else _scatter_adaptive

    def step(total: Array, part: tuple[Regions, Array]) -> tuple[Array, None]:
        return scatter(total, *part, sampling), None

    nothing = zeros_like_table(shape, cotangent.shape[-1])
    total, _ = lax.scan(step, nothing, parts)
    return total.astype(shape.dtype), no_gradient(regions)


def _scatter(
    total: Array, regions: Regions, cotangent: Array, sampling: Sampling
) -> Array:
    rows, row_weights = _taps(regions, 0, sampling)
    columns, column_weights = _taps(regions, 1, sampling)
    begin = regions.offset[:, None, None] + rows * regions.size[:, 1, None, None]
    index = begin[:, :, None, :, None] + columns[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return _add_rows(total, index, weight, cotangent)


def _scatter_adaptive(
    total: Array, regions: Regions, cotangent: Array, sampling: Sampling
) -> Array:
    def add(total: Array, part: _Round) -> Array:
        return _add_rows(total, part.rows, part.weights, cotangent)

    return _over_rounds(regions, sampling, add, total)


def _add_rows(total: Array, index: Array, weight: Array, cotangent: Array) -> Array:
    """Adds `weight * cotangent` to the rows `index`, both `[R, sh, sw, a, b]`."""
    rows = cotangent[..., None, None, :] * weight[..., None]
    rows = rows.reshape(-1, total.shape[-1]).astype(total.dtype)
    return total.at[index.ravel()].add(rows)


sample_bins.defvjp(_sample_forward, _sample_backward)
