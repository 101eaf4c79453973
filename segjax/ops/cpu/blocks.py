"""Transposed convolutions whose stride is their kernel: each pixel becomes a block.

Compilers for accelerators are better at the transposed convolution itself
(`segjax.ops.convolution.adjoint`).
"""

from __future__ import annotations

import jax.numpy as jnp

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.lax_conv import Options
from segjax.types import Array


def is_blockwise(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> bool:
    """Whether each pixel becomes a block of its own, and the blocks tile the output."""
    window = kernel.shape[:2]
    return (
        options.stride == window
        and options.pads == ((0, 0), (0, 0))
        and options.dilation == (1, 1)
        and options.groups == 1
        and size == (x.shape[1] * window[0], x.shape[2] * window[1])
    )


def conv_transpose_blocks(x: Array, kernel: Array) -> Array:
    """A matrix product, whose columns are then spread over blocks of pixels."""
    batch, height, width, channels = x.shape
    down, across, features, _ = kernel.shape
    y = jnp.dot(
        x.reshape(-1, channels),
        kernel.reshape(-1, channels).T,
        preferred_element_type=wide_dtype(x),
    ).astype(x.dtype)
    y = y.reshape(batch, height, width, down, across, features)
    y = y.transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, height * down, width * across, features)
