"""Filtering over a permutohedral lattice that is there: splat, blur, slice.

`segjax.ops.crf.permutohedral` builds the lattice, and says what it approximates.

Source: Adams, Baek and Davis, *Fast High-Dimensional Filtering Using the Permutohedral
Lattice*, 2010, section 3; conventions of Kraehenbuehl and Koltun's code (2011).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.forms import is_fast_on_cpu
from segjax.ops.cpu.materialization import materialize
from segjax.types import Array

SPLAT_VALUES = 3 << 14
"""Values times a weight that a processor's second cache holds; more are computed by all
its cores, which costs more than it saves where one core adds them up."""

PAIRED_CHANNELS = range(14, 32)
"""Channels with which two axes are blurred in one pass on a CPU.

The loop over the channels of one axis is so short that LLVM writes it out, one number at
a time; that of two axes is not, and is computed four numbers at a time. With fewer
channels even that is written out, and with more neither is. Whole calls of `dense_crf` with 21
labels and 10 steps take 1.15 times as long without it at 194,000 and at 442,000 vertices, and
as long at 24,000, which is all that `bench_forms` sees (jaxlib 0.10.2, 2 cores AMD EPYC).
"""

_IN_BOUNDS: dict[str, Any] = {
    "mode": "promise_in_bounds",
    "wrap_negative_indices": False,
}

_dataclass = functools.partial(jax.tree_util.register_dataclass, meta_fields=())


@functools.partial(
    _dataclass,
    data_fields=(
        "index",
        "weights",
        "neighbors",
        "count",
        "cells",
        "ok",
        "before",
        "after",
    ),
)
@dataclass(frozen=True)
class LatticeFilter:
    """A lattice that was built for one image; `permutohedral_lattice` builds it.

    The matrix is `S' B S` with `S` the splat and `B` the blurs one after another, which
    do not commute: it is not symmetric, and its transpose has the blurs in reverse.
    The gradient is that transpose. With respect to the features there is none: a vertex
    that a pixel leaves with weight zero still conducts, so that the output jumps with
    the features, and what a derivative of the formulas gives is wrong.

    Attributes:
      index: vertices of each pixel `[N, d + 1]`, int32.
      weights: their barycentric weights `[N, d + 1]`, times what `scaled` put on both
        sides; NaN when the capacity was too small, so that no result can be mistaken
        for one.
      neighbors: vertices before and after along each axis `[d + 1, 2, M + 1]`; where
        there is none, row `M`, which stays zero.
      count: vertices that the image has.
      cells: of the box of its vertices, float32.
      ok: whether the capacity was enough.
      before: factor of each pixel ahead of the splat, `[N, 1]`; None: 1. It costs
        nothing, as part of the weights.
      after: the same behind the slice.
    """

    index: Array
    weights: Array
    neighbors: Array
    count: Array
    cells: Array
    ok: Array
    before: Array | None = None
    after: Array | None = None

    @property
    def max_vertices(self) -> int:
        """Vertices that there is room for."""
        return self.neighbors.shape[2] - 1

    def __call__(self, values: Array) -> Array:
        """Filters values `[N, C]`, see `lattice_filter`."""
        return lattice_filter(self, values)

    def scaled(self, before: Array | None, after: Array | None) -> LatticeFilter:
        """See `segjax.ops.crf.gaussian.Filter`."""
        if before is not None and before is after:
            # One product of the weights, which splat and slice have in common.
            return dataclasses.replace(self, weights=self.weights * before)
        before, after = _product(self.before, before), _product(self.after, after)
        return dataclasses.replace(self, before=before, after=after)


def _product(one: Array | None, other: Array | None) -> Array | None:
    if one is None or other is None:
        return other if one is None else one
    return one * other


def _weights(lattice: LatticeFilter, factor: Array | None) -> Array:
    """Weights of vertices, times the factor of each pixel `[N, 1]`."""
    return lattice.weights if factor is None else lattice.weights * factor


def splat(lattice: LatticeFilter, values: Array) -> Array:
    """Adds the values of pixels `[N, C]` to the vertices of their simplices, `[M + 1, C]`.

    On a CPU pixel by pixel, in parts that stay in a core's cache.
    """
    weights = _weights(lattice, lattice.before)
    (pixels, corners), channels = weights.shape, values.shape[1]
    most = pixels
    if is_fast_on_cpu():
        most = max(1, SPLAT_VALUES // max(1, corners * channels))
    parts = -(-pixels // most)
    size = -(-pixels // parts)

    def add(part: Array, total: Array) -> Array:
        # The last part begins among the pixels of the one before, whose weight is 0 here.
        begin = jnp.minimum(part * size, pixels - size)
        fresh = begin + jnp.arange(size) >= part * size
        index, weight, x = (
            lax.dynamic_slice_in_dim(rows, begin, size)
            for rows in (lattice.index, weights, values)
        )
        # All corners of a pixel before the next one, whose vertices are often the same:
        # an addition would wait for the one before.
        given = jnp.where(fresh[:, None], weight, 0)[:, :, None] * x[:, None]
        given = given.reshape(size * corners, channels)
        return total.at[index.reshape(-1)].add(given, **_IN_BOUNDS)

    kind = jnp.result_type(weights, values)
    start = jnp.zeros((lattice.max_vertices + 1, channels), kind)
    return lax.fori_loop(0, parts, add, start)


def _read(x: Array, index: Array) -> Array:
    return x.at[index].get(**_IN_BOUNDS)


def _along(x: Array, axis: Array) -> Array:
    """One blur, `[1/2, 1, 1/2]` along an axis of neighbours `[2, M + 1]`.

    Vertices are numbered in the order of their keys, so that those which follow each other
    along an axis lie anywhere, and a neighbour that no pixel has touched is row `M`, zeros:

        vertex          0   1   2   3  ..  M - 1
        axis[0]         M   0   M   1  ..  7         the one before
        axis[1]         1   3   5   M  ..  M         the one behind
    """
    return x + 0.5 * (_read(x, axis[0]) + _read(x, axis[1]))


def _along_two(x: Array, first: Array, second: Array) -> Array:
    """`_along(_along(x, first), second)` in one pass.

    A vertex reads the nine of a square, four of them by the neighbours of a neighbour:

        1/4  1/2  1/4        first before . second before   ...
        1/2   1   1/2
        1/4  1/2  1/4        (rows: along `second`, columns: along `first`)
    """

    def beside(axis: Array, at: Array | None = None) -> Array:
        ends = axis if at is None else [_read(side, at) for side in axis]
        return _read(x, ends[0]) + _read(x, ends[1])

    corners = beside(first, second[0]) + beside(first, second[1])
    return x + 0.5 * (beside(first) + beside(second) + 0.5 * corners)


def _blur_axes(axes: Sequence[int], x: Array, neighbors: Array) -> Array:
    form = _along if len(axes) == 1 else _along_two
    return form(x, *(neighbors[axis] for axis in axes))


def _blur(lattice: LatticeFilter, vertices: Array, reverse: bool) -> Array:
    if not is_fast_on_cpu():
        along = lambda x, axis: (_along(x, axis), None)
        return lax.scan(along, vertices, lattice.neighbors, reverse=reverse)[0]
    # Branches, because a loop would copy all vertices after each pass.
    axes = range(lattice.neighbors.shape[0])
    if reverse:
        axes = axes[::-1]
    at_once = 2 if vertices.shape[1] in PAIRED_CHANNELS else 1
    for start in range(0, len(axes), at_once):
        blur = functools.partial(_blur_axes, axes[start : start + at_once])
        vertices = materialize(blur, vertices, lattice.neighbors)
    return vertices


def _slice(lattice: LatticeFilter, vertices: Array) -> Array:
    weights = _weights(lattice, lattice.after)
    corners = [
        weights[:, k, None] * _read(vertices, lattice.index[:, k])
        for k in range(weights.shape[1])
    ]
    alpha = 1 / (1 + 2.0 ** (1 - len(corners)))
    return alpha * functools.reduce(jnp.add, corners)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _filter(reverse: bool, lattice: LatticeFilter, values: Array) -> Array:
    return _slice(lattice, _blur(lattice, splat(lattice, values), reverse))


def _filter_forward(
    reverse: bool, lattice: LatticeFilter, values: Array
) -> tuple[Array, LatticeFilter]:
    return _filter(reverse, lattice, values), lattice


def _filter_backward(
    reverse: bool, lattice: LatticeFilter, g: Array
) -> tuple[None, Array]:
    exchanged = dataclasses.replace(lattice, before=lattice.after, after=lattice.before)
    return None, _filter(not reverse, exchanged, g)


_filter.defvjp(_filter_forward, _filter_backward)
_jitted_filter = jax.jit(_filter, static_argnums=0)


def lattice_filter(
    lattice: LatticeFilter, values: Array, *, reverse: bool = False
) -> Array:
    """Filters values over a lattice: splat, blur, slice.

    Args:
      lattice: of `permutohedral_lattice`.
      values: `[N, C]`.
      reverse: whether the blurs are in reverse, which is the transpose if the factors
        of the lattice are exchanged.

    Returns:
      `[N, C]`; NaN where the capacity of the lattice was too small.
    """
    return _jitted_filter(reverse, lattice, values)
