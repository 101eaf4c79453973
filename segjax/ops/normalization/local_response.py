"""Local response normalisation: loud values quieten their neighbours.

Neighbours are other channels of the same pixel, or other pixels of the same channel.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.ops.base.arguments import check_floating, check_maps
from segjax.ops.pooling.windowed import avg_pool
from segjax.types import Array


def local_response_norm(
    x: Array,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Array:
    """Divides each value by a power of the mean square of its neighbour channels.

    `y[c] = x[c] / (k + alpha / size * sum_d x[c + d]^2)^beta`, where `d` runs over
    `size` channels around `c` and channels beyond the ends count as zero. This is the
    form of Caffe and PyTorch; Krizhevsky, Sutskever & Hinton (NIPS 2012, section 3.3)
    do not divide `alpha` by `size`. The arithmetic is in float32 at least.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      size: channels in the sum; of an even number, one more comes before than after.
      alpha: weight of the mean square.
      beta: the power.
      k: what is there without any neighbour.

    Returns:
      `[B, H, W, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is below 1 or `x` is of another shape or dtype.

    Example:
      >>> x = jnp.full((1, 1, 1, 3), 2.0)
      >>> y = local_response_norm(x, size=3, alpha=3.0, beta=1.0)
      >>> [round(value, 4) for value in y[0, 0, 0].tolist()]
      [0.2222, 0.1538, 0.2222]
    """
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x is {x.dtype} {x.shape}; allowed are maps [B, H, W, C] of real numbers"
        )
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    channels = x.shape[3]
    sides = (size // 2, (size - 1) // 2, 0)
    squares = lax.pad(wide * wide, jnp.zeros((), wide.dtype), [(0, 0, 0)] * 3 + [sides])
    total = squares[..., :channels]
    for i in range(1, size):
        total = total + squares[..., i : i + channels]
    return (wide * (k + alpha / size * total) ** -beta).astype(x.dtype)


def local_response_norm_within(
    x: Array,
    *,
    size: int = 3,
    alpha: float = 5e-5,
    beta: float = 0.75,
    k: float = 1.0,
) -> Array:
    """Divides each value by a power of the mean square around it in its own channel.

    `y[i, j] = x[i, j] / (k + alpha / size^2 * sum_uv x[i + u, j + v]^2)^beta`, where
    `u` and `v` run over a window of `size` pixels around 0; what lies outside of the map
    counts as zero. This is the form WITHIN_CHANNEL of Caffe, with the numbers of the
    network of Zeiler & Fergus (ECCV 2014, arXiv 1311.2901) in SPP_net's release. The
    arithmetic is in float32 at least.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      size: side of the window, pixels; an odd number.
      alpha: weight of the mean square.
      beta: the power.
      k: what is there without any neighbour.

    Returns:
      `[B, H, W, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is not odd or below 1, or `x` is of another shape or dtype.

    Example:
      >>> x = jnp.full((1, 3, 3, 1), 2.0)
      >>> y = local_response_norm_within(x, size=3, alpha=9.0, beta=1.0)
      >>> [round(value, 4) for value in y[0, 1, :, 0].tolist()]
      [0.08, 0.0541, 0.08]
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size is {size}; allowed are odd numbers of at least 1")
    check_maps(x)
    check_floating(x)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = avg_pool(wide * wide, window=size, stride=1, padding=size // 2)
    return (wide * (k + alpha * mean) ** -beta).astype(x.dtype)
