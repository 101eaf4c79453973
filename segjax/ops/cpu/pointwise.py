"""Convolution by a kernel of one pixel, as the product of matrices that it is.

XLA's CPU backend (jaxlib 0.10.2) does not see that it is one: at 64x64, from 256 to 64
channels, it takes three times as long.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.lax_conv import Options
from segjax.types import Array


def is_pointwise(kernel: Array, options: Options) -> bool:
    """Whether a convolution looks at one pixel for each of its results."""
    return (
        kernel.shape[:2] == (1, 1)
        and options.groups == 1
        and options.pads == ((0, 0), (0, 0))
    )


def pointwise(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves `[B, H, W, C]` with `[1, 1, C, F]`.

    Args:
      x: feature map `[B, H, W, C]`.
      kernel: `[1, 1, C, F]`.
      options: of them only the stride matters.

    Returns:
      `[B, h, w, F]`.
    """
    down, across = options.stride
    return _product(x[:, ::down, ::across], kernel[0, 0])


def pointwise_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `pointwise` for an image of `size`.

    Args:
      x: `[B, h, w, F]`.
      kernel: `[1, 1, C, F]`.
      options: of them only the stride matters.
      size: height and width of the result.

    Returns:
      `[B, H, W, C]`; pixels between the strides are 0.
    """
    y = _product(x, kernel[0, 0].T)
    config = [(0, 0, 0)] * 4
    for axis, step in enumerate(options.stride, 1):
        reached = (x.shape[axis] - 1) * step + 1
        config[axis] = (0, size[axis - 1] - reached, step - 1)
    return lax.pad(y, jnp.zeros((), y.dtype), config)


def _product(x: Array, matrix: Array) -> Array:
    y = jnp.einsum("bhwc,cf->bhwf", x, matrix, preferred_element_type=wide_dtype(x))
    return y.astype(x.dtype)
