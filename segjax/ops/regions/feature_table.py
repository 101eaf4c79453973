"""Feature maps of all levels of an image as one table, and regions in chunks.

Every row of the table holds the C channels of one cell, and a region knows at which row
its map begins: so one gather serves regions of all levels. Of all regions at once the
samples would fill the memory many times over, so they are taken in chunks. Images are
kept apart (`jax.vmap`), so that each device works on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import check_floating, check_maps
from segjax.ops.base.dtypes import wide_dtype
from segjax.types import Array

FORWARD_CHUNK, BACKWARD_CHUNK = 64, 16
"""Regions of which the samples are in memory at a time."""

Tree = TypeVar("Tree")
Result = TypeVar("Result")


def check_regions(
    features: Sequence[Array], boxes: Array, scales: tuple[float, ...]
) -> None:
    """Refuses maps, boxes and scales that do not belong together."""
    if not features or len(features) != len(scales):
        raise ValueError(
            f"features are {len(features)} maps with {len(scales)} strides; allowed is one "
            "each, at least one"
        )
    if min(scales) <= 0:
        raise ValueError(f"scales are {scales}; allowed are positive numbers")
    for x in features:
        check_maps(x, "features")
        check_floating(x)
    kinds = {(x.shape[0], x.shape[-1], x.dtype) for x in features}
    if len(kinds) != 1:
        raise ValueError(
            f"features are {[x.shape for x in features]}; allowed are maps of one batch, "
            "one number of channels and one dtype"
        )
    batch = features[0].shape[0]
    if boxes.ndim != 3 or boxes.shape[0] != batch or boxes.shape[2] != 4:
        raise ValueError(
            f"boxes is {boxes.shape}; allowed is [B, R, 4], B {batch} here"
        )


def flatten(features: Sequence[Array], levels: Array) -> tuple[Array, Array, Array]:
    """Maps `[h, w, C]` as one table, and each region's map size `[R, 2]` and offset."""
    sizes = np.array([x.shape[:2] for x in features], np.int32)
    cells = sizes.prod(1)
    begins = np.cumsum(cells) - cells
    parts = [x.reshape(-1, x.shape[-1]) for x in features]
    table = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    return table, jnp.asarray(sizes)[levels], jnp.asarray(begins, jnp.int32)[levels]


def split(count: int, most: int) -> tuple[int, int]:
    """Number of chunks, two at least, and regions of each.

    One chunk would not be a loop, and XLA would fuse its body into whatever reads it: many
    times slower, and with all samples in memory.
    """
    chunks = max(2, math.ceil(count / most))
    return chunks, max(1, math.ceil(count / chunks))


def cut(tree: Tree, chunks: int, chunk: int) -> Tree:
    """Arrays `[R, ...]` as `[chunks, chunk, ...]`, padded with zeros."""

    def cut_one(x: Array) -> Array:
        rest = chunks * chunk - x.shape[0]
        x = jnp.pad(x, [(0, rest)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(chunks, chunk, *x.shape[1:])

    return jax.tree.map(cut_one, tree)


def over_chunks(function: Callable[[Tree], Result], regions: Tree, most: int) -> Result:
    """Applies a function to chunks of regions, one after the other, and joins them."""
    count = jax.tree.leaves(regions)[0].shape[0]
    result = lax.map(function, cut(regions, *split(count, most)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], result)


def no_gradient(tree: Tree) -> Tree:
    """The cotangent of arrays that have none."""

    def zero(x: Array) -> np.ndarray | Array:
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.zeros_like(x)
        return np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(zero, tree)


def shape_of(table: Array) -> Array:
    """An array of no elements that keeps the table's rows and dtype for a gradient."""
    return table[:, :0]


def zeros_like_table(shape: Array, channels: int) -> Array:
    """Zeros to add gradients to, as many rows as the table has; float32 at least."""
    return jnp.zeros((shape.shape[0], channels), wide_dtype(shape))
