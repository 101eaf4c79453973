"""Pooling of maps `[B, H, W, C]` to a given number of bins, PyTorch's adaptive pooling.

Bin `i` of `n` along a side of `H` pixels is `[floor(i H / n), ceil((i + 1) H / n))`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.ops.base.arguments import Pair, check_floating, check_maps, pair
from segjax.ops.base.windows import Windows
from segjax.ops.pooling.windowed import maximum_along
from segjax.types import Array


def adaptive_bins(size: int, count: int) -> list[tuple[int, int]]:
    """First pixel, and the one behind the last, of PyTorch's adaptive bins.

    Neighbours may share a pixel, and there may be more bins than pixels.
    """
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_avg_pool(x: Array, *, size: Pair) -> Array:
    """Takes the mean of `size` bins that cover the map, whatever its own size.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      size: number of bins along height and width; one number for both.

    Returns:
      `[B, *size, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is below 1 or `x` is of another shape or dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(5.0).reshape(1, 1, 5, 1)
      >>> adaptive_avg_pool(x, size=(1, 2))[0, 0, :, 0].tolist()
      [1.0, 3.0]
    """
    check_maps(x)
    check_floating(x)
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    for axis, count in zip((2, 1), reversed(pair("size", size, 1)), strict=True):
        means = [
            lax.slice_in_dim(x, start, stop, axis=axis).mean(axis)
            for start, stop in adaptive_bins(x.shape[axis], count)
        ]
        x = jnp.stack(means, axis)
    return x.astype(dtype)


def adaptive_max_pool(x: Array, *, size: Pair) -> Array:
    """Takes the maximum of `size` bins that cover the map, whatever its own size.

    Args:
      x: maps `[B, H, W, C]`.
      size: number of bins along height and width, as in `adaptive_avg_pool`.

    Returns:
      `[B, *size, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is below 1 or `x` is of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(15.0).reshape(1, 3, 5, 1)
      >>> adaptive_max_pool(x, size=2)[0, :, :, 0].tolist()
      [[7.0, 9.0], [12.0, 14.0]]
    """
    check_maps(x)
    for axis, count in zip((2, 1), reversed(pair("size", size, 1)), strict=True):
        maxima = []
        for start, stop in adaptive_bins(x.shape[axis], count):
            part = lax.slice_in_dim(x, start, stop, axis=axis)
            whole = Windows(axis, stop - start, 1, 0, 0, 1)
            maxima.append(maximum_along(part, None, whole)[0])
        x = jnp.concatenate(maxima, axis)
    return x
