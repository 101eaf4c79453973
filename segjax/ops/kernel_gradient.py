"""The gradient of a convolution with respect to its kernel, quick on every backend.

XLA's CPU backend has no fast form of it: left to itself it takes many times as long as
the forward pass. Here it is made of matrix products; accelerators keep the stock form.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

_NHWC = ("NHWC", "HWIO", "NHWC")
_SMALL_MAP = 64 * 64
"""Pixels up to which a kernel gradient takes whole maps instead of blocks of rows."""
_BLOCK_BYTES = 4 << 20
"""Memory of the unfolded patches of one block of rows: what stays in cache."""


class Options(NamedTuple):
    """Where the taps of a kernel lie; hashable, so that it can be a static argument.

    Attributes:
      stride: pixels from one output to the next, down and across.
      pads: zeros `((top, bottom), (left, right))`.
      dilation: pixels from one tap to the next, down and across.
      groups: blocks of channels that do not see each other.
    """

    stride: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int


def stock_conv(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves `[B, H, W, C]` with `[kh, kw, C / groups, F]`, as XLA does it."""
    return lax.conv_general_dilated(
        x,
        kernel,
        options.stride,
        options.pads,
        rhs_dilation=options.dilation,
        dimension_numbers=_NHWC,
        feature_group_count=options.groups,
    )


def kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    """Gradient of `sum(stock_conv(x, kernel, options) * cotangent)` with respect to `kernel`.

    Stock on accelerators. XLA's CPU backend has no fast form of it, so there it is
    made of matrix products (several times faster, and deterministic).
    """

    def stock(x: Array, cotangent: Array) -> Array:
        pull = jax.linear_transpose(lambda k: stock_conv(x, k, options), kernel)
        return pull(cotangent)[0]

    def products(x: Array, cotangent: Array) -> Array:
        rows, columns = (
            _reach(cotangent.shape[1 + axis], kernel.shape[axis], options, axis)
            for axis in (0, 1)
        )
        x = pad_to(x, options.pads, (rows, columns))
        small = cotangent.shape[1] * cotangent.shape[2] <= _SMALL_MAP
        form = _gradient_by_taps if small else _gradient_by_rows
        return form(x, cotangent, kernel.shape, options).astype(kernel.dtype)

    if options.groups > 1:
        return stock(x, cotangent)
    return lax.platform_dependent(x, cotangent, cpu=products, default=stock)


def _reach(size: int, taps: int, options: Options, axis: int) -> int:
    """Padded input pixels that `size` output pixels read along an axis."""
    return (size - 1) * options.stride[axis] + options.dilation[axis] * (taps - 1) + 1


def pad_to(x: Array, pads: tuple[tuple[int, int], ...], size: tuple[int, int]) -> Array:
    """Pads the upper left as `pads` says, and pads or crops the rest to `size`."""
    config = [(0, 0, 0)] * 4
    for axis, (low, _) in enumerate(pads):
        config[1 + axis] = (low, size[axis] - low - x.shape[1 + axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _tap(x: Array, u: int, v: int, size: tuple[int, int], options: Options) -> Array:
    """What tap `(u, v)` of the kernel sees: `[B, h, w, C]`."""
    (down, across), (i, j) = options.stride, (u, v)
    i, j = i * options.dilation[0], j * options.dilation[1]
    stop_i, stop_j = i + (size[0] - 1) * down + 1, j + (size[1] - 1) * across + 1
    return x[:, i:stop_i:down, j:stop_j:across]


def _gradient_by_taps(
    x: Array, cotangent: Array, shape: tuple[int, ...], options: Options
) -> Array:
    """One matrix product for each tap: for many channels on a small map."""
    height, width, _, features = shape
    channels = x.shape[3]
    size = cotangent.shape[1], cotangent.shape[2]
    right = cotangent.reshape(-1, features)
    taps = [
        jnp.dot(
            _tap(x, u, v, size, options).reshape(-1, channels).T,
            right,
            preferred_element_type=wide_dtype(x),
        )
        for u in range(height)
        for v in range(width)
    ]
    return jnp.stack(taps).reshape(shape)


def _gradient_by_rows(
    x: Array, cotangent: Array, shape: tuple[int, ...], options: Options
) -> Array:
    """One matrix product for each block of rows: for few channels on a large map.

    The patches of one block are unfolded next to each other. Blocks are small enough to
    stay in cache. Images are kept apart to the end: where the batch is sharded, there
    is one sum over devices and not one in each block.
    """
    height, width, channels, features = shape
    batch, h, w, _ = cotangent.shape
    patch = height * width * channels
    rows = max(1, min(h, _BLOCK_BYTES // (batch * w * patch * x.dtype.itemsize)))
    blocks = -(-h // rows)
    span = _reach(rows, height, options, 0)
    need = _reach(blocks * rows, height, options, 0)
    x = pad_to(x, ((0, 0), (0, 0)), (need, x.shape[2]))
    cotangent = pad_to(cotangent, ((0, 0), (0, 0)), (blocks * rows, w))

    def add_block(total: Array, block: Array) -> tuple[Array, None]:
        start = block * rows
        seen = lax.dynamic_slice_in_dim(x, start * options.stride[0], span, 1)
        right = lax.dynamic_slice_in_dim(cotangent, start, rows, 1)
        taps = [
            _tap(seen, u, v, (rows, w), options)
            for u in range(height)
            for v in range(width)
        ]
        left = jnp.concatenate(taps, -1).reshape(batch, -1, patch)
        product = jnp.einsum(
            "bpc,bpf->bcf",
            left,
            right.reshape(batch, -1, features),
            preferred_element_type=wide_dtype(x),
        )
        return total + product, None

    zeros = jnp.zeros((batch, patch, features), wide_dtype(x))
    total, _ = lax.scan(add_block, zeros, jnp.arange(blocks))
    return total.sum(0).reshape(shape)


def wide_dtype(x: Array) -> jnp.dtype:
    """The dtype in which sums of `x` are kept: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)
