"""Normalisation of channels: by the batch, by given statistics, or in groups.

The backward pass of batch normalisation is two sums and one multiply-add.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

_PIXELS = (0, 1, 2)


def batch_norm(
    x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Normalises each channel by the mean and the variance of the batch.

    Ioffe, Szegedy 2015, arXiv 1502.03167, algorithm 1. Under `jit` with a sharded batch
    the statistics are those of the whole batch. They are float32 whatever the dtype
    of `x`; no gradient flows through those that are returned.

    Args:
      x: feature map `[B, H, W, C]`.
      scale: gamma of each channel, `[C]` float32.
      bias: beta of each channel, `[C]` float32.
      epsilon: added to the variance.

    Returns:
      The normalised map `[B, H, W, C]`, in the dtype of `x`; mean and variance (biased)
      of each channel, `[C]` float32.

    Example:
      >>> x = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
      >>> y, mean, variance = batch_norm(x, jnp.ones(1), jnp.zeros(1), epsilon=0.0)
      >>> y.ravel().tolist(), mean.tolist(), variance.tolist()
      ([-1.0, 1.0], [2.0], [1.0])
    """
    if x.ndim != 4 or scale.shape != x.shape[3:] or bias.shape != x.shape[3:]:
        raise ValueError(
            f"x must be [B, H, W, C] with scale and bias [C], got {x.shape}, "
            f"{scale.shape} and {bias.shape}"
        )
    y, mean, variance = _batch_norm(x, scale, bias, epsilon)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def normalize_by(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float = 1e-5,
) -> Array:
    """Normalises each channel by given statistics: what evaluation does.

    Args:
      x: feature map `[B, H, W, C]`.
      mean: of each channel, `[C]`.
      variance: of each channel, `[C]`.
      scale: gamma of each channel, `[C]`.
      bias: beta of each channel, `[C]`.
      epsilon: added to the variance. Where it is the number 0, a channel without
        variance is taken for a constant one, and becomes `bias`.

    Returns:
      The normalised map, in the dtype of `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1.0, 3.0], [5.0, 7.0]]).reshape(1, 2, 2, 1)
      >>> mean, variance, scale, bias = jnp.array([[4.0], [4.0], [1.0], [10.0]])
      >>> normalize_by(x, mean, variance, scale, bias, epsilon=0)[0, :, :, 0].tolist()
      [[8.5, 9.5], [10.5, 11.5]]
    """
    if isinstance(epsilon, (int, float)) and epsilon == 0:
        scale = jnp.where(variance > 0, scale, 0)
        variance = jnp.where(variance > 0, variance, 1)
    factor = scale * lax.rsqrt(variance + epsilon)
    return _affine(x, factor, bias - mean * factor).astype(x.dtype)


def group_norm(
    x: Array, scale: Array, bias: Array, *, groups: int, epsilon: float = 1e-5
) -> Array:
    """Normalises groups of channels by their mean and variance within each image.

    Wu, He, ECCV 2018, arXiv 1803.08494. Statistics are float32 at least.

    Args:
      x: feature map `[B, H, W, C]`.
      scale: gamma of each channel, `[C]`.
      bias: beta of each channel, `[C]`.
      groups: C is a multiple of it; neighbouring channels are together.
      epsilon: added to the variance.

    Returns:
      The normalised map, in the dtype of `x`.

    Raises:
      ValueError: if a shape or the number of groups does not fit.

    Example:
      >>> x = jnp.array([1.0, 3.0, 10.0, 20.0]).reshape(1, 1, 1, 4)
      >>> y = group_norm(x, jnp.ones(4), jnp.zeros(4), groups=2, epsilon=0.0)
      >>> y.ravel().tolist()
      [-1.0, 1.0, -1.0, 1.0]
    """
    if x.ndim != 4 or scale.shape != x.shape[3:] or bias.shape != x.shape[3:]:
        raise ValueError(
            f"x must be [B, H, W, C] with scale and bias [C], got {x.shape}, "
            f"{scale.shape} and {bias.shape}"
        )
    batch, height, width, channels = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(
            f"groups is {groups} for {channels} channels; allowed is a divisor of them"
        )
    wide = _wide(x)
    # Over pixels first: sums along rows of channels, which lie together in memory.
    count = height * width * channels // groups
    together = lambda y: y.reshape(batch, groups, -1).sum(-1, keepdims=True)
    apart = lambda y: jnp.broadcast_to(y, (batch, groups, channels // groups)).reshape(
        batch, 1, 1, channels
    )
    mean = apart(together(wide.sum((1, 2))) / count)
    centered = wide - mean
    variance = apart(together((centered * centered).sum((1, 2))) / count)
    row = lambda values: values.astype(wide.dtype)[None, None, None]
    factor = row(scale) * lax.rsqrt(variance + epsilon)
    return (centered * factor + row(bias)).astype(x.dtype)


def _affine(x: Array, factor: Array, offset: Array) -> Array:
    """`x * factor + offset` in float32 at least: in bfloat16 a large mean would cancel
    against a large offset, and take the digits with it.
    """
    wide = _wide(x)
    row = lambda values: values.astype(wide.dtype)[None, None, None]
    return wide * row(factor) + row(offset)


def _wide(x: Array) -> Array:
    """The map in the dtype in which sums are kept: float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _forward(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    wide = _wide(x)
    mean = wide.mean(_PIXELS)
    variance = jnp.maximum((wide * wide).mean(_PIXELS) - mean * mean, 0.0)
    y = normalize_by(x, mean, variance, scale, bias, epsilon=epsilon)
    return (y, mean, variance), (x, mean, lax.rsqrt(variance + epsilon), scale)


@jax.custom_vjp
def _batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    return _forward(x, scale, bias, epsilon)[0]


def _backward(
    residuals: tuple[Array, Array, Array, Array],
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, None]:
    """The closed form: d x = factor (dy - mean(dy) - x_hat mean(dy x_hat))."""
    x, mean, inverse, scale = residuals
    dy = cotangents[0]
    count = x.size // x.shape[-1]
    wide_dy = _wide(dy)
    d_bias = wide_dy.sum(_PIXELS)
    product = (wide_dy * _wide(x)).sum(_PIXELS)
    d_scale = (product - mean * d_bias) * inverse
    factor = scale * inverse
    slope = -factor * inverse * d_scale / count
    offset = -factor * d_bias / count - slope * mean
    wide = _wide(x)
    dx = _affine(dy, factor, offset) + wide * slope.astype(wide.dtype)[None, None, None]
    return dx.astype(x.dtype), d_scale, d_bias, None


_batch_norm.defvjp(_forward, _backward)
