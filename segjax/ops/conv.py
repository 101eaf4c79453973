"""Convolution and its adjoint."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.types import Array

Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def conv(x: Array, kernel: Array, *, stride: int = 1, padding: Padding = 0, dilation: int = 1, groups: int = 1) -> Array:
    """Convolves `[B, H, W, C]` with `[kh, kw, C / groups, F]`."""
    pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )


def conv_transpose(x: Array, kernel: Array, *, stride: int = 1) -> Array:
    """The adjoint of `conv` for a kernel as wide as the stride: `[B, h, w, C]`, `[s, s, F, C]` -> `[B, s h, s w, F]`."""
    batch, height, width, _ = x.shape
    y = jnp.einsum("bhwc,ijfc->bhiwjf", x, kernel)
    return y.reshape(batch, height * stride, width * stride, kernel.shape[2])
