"""Pooling that remembers where its maxima were, for decoders that write there again.

SegNet (Badrinarayanan et al. 2017, arXiv 1511.00561) and DeconvNet (Noh et al. 2015,
arXiv 1505.04366).
"""

from __future__ import annotations

import jax.numpy as jnp

from segjax.ops.pooling.windowed import max_pool_with_indices, max_unpool
from segjax.types import Array


def pool(x: Array) -> tuple[Array, Array]:
    """Takes the maximum of 2x2 blocks, of which the last may hang over (Caffe's sizes).

    Odd sides get one more row or column of the lowest number, so that every size takes
    the fast form of pooling.

    Args:
      x: maps `[B, H, W, C]`.

    Returns:
      The maxima `[B, ceil(H / 2), ceil(W / 2), C]`, and their positions for `unpool`.

    Example:
      >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> pool(x)[0][0, :, :, 0].tolist()
      [[4.0, 5.0], [7.0, 8.0]]
    """
    rest = (0, x.shape[1] % 2), (0, x.shape[2] % 2)
    if any(after for _, after in rest):
        lowest = jnp.finfo(x.dtype).min
        x = jnp.pad(x, ((0, 0), *rest, (0, 0)), constant_values=lowest)
    return max_pool_with_indices(x, window=2)


def unpool(x: Array, indices: Array, *, size: tuple[int, int]) -> Array:
    """Writes values to where `pool` found its maxima, in a map of zeros.

    Args:
      x: values `[B, h, w, C]`.
      indices: positions `[B, h, w, C]`, from `pool`.
      size: height and width of the map that `pool` was given.

    Returns:
      `[B, *size, C]`.

    Example:
      >>> maxima, indices = pool(jnp.arange(9.0).reshape(1, 3, 3, 1))
      >>> unpool(maxima, indices, size=(3, 3))[0, :, :, 0].tolist()
      [[0.0, 0.0, 0.0], [0.0, 4.0, 5.0], [0.0, 7.0, 8.0]]
    """
    even = 2 * x.shape[1], 2 * x.shape[2]
    height, width = size
    return max_unpool(x, indices, size=even, window=2)[:, :height, :width]
