"""Convolution of each channel by itself, and its two gradients, as XLA:CPU does it well.

XLA's CPU backend has no fast form of a grouped convolution: a depthwise 3x3 takes
several times as long as the dense one. Here a tap is a shifted copy of the map times one
number a channel, and a convolution is the sum over its taps, which compilers fuse into
one loop. `segjax.ops.cpu.convolution` takes these forms where `groups` equals the channels
of image and output.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.lax_conv import Options, pad_to
from segjax.types import Array

_UNROLL = 2
"""Rows that one step of the kernel gradient's loop adds up."""


def is_depthwise(kernel: Array, options: Options) -> bool:
    """Whether each output channel sees one input channel, its own, and no other does."""
    return kernel.shape[2] == 1 and 1 < options.groups == kernel.shape[3]


@partial(jax.jit, static_argnames="options")
def depthwise(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves `[B, H, W, C]` with `[kh, kw, 1, C]`: a sum of shifted products."""
    size = options.output_size(x, kernel)
    padded = pad_to(x, options.pads, _padded_size(size, kernel, options))
    return _sum_of_taps(padded, kernel, size, options).astype(x.dtype)


@partial(jax.jit, static_argnames=("options", "size"))
def depthwise_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `depthwise` for an image of `size`.

    It is a convolution with the kernel flipped, of a map whose pixels have been
    moved a stride apart.
    """
    config = [(0, 0, 0)] * 4
    for axis, (low, _) in enumerate(options.pads):
        before = options.reach(kernel.shape[axis], axis) - low
        spread = (x.shape[1 + axis] - 1) * options.stride[axis] + 1
        after = size[axis] + low - spread
        config[1 + axis] = (before, after, options.stride[axis] - 1)
    spread_out = lax.pad(x, jnp.zeros((), x.dtype), config)
    turned = kernel[::-1, ::-1]
    plain = options._replace(stride=(1, 1))
    return _sum_of_taps(spread_out, turned, size, plain).astype(x.dtype)


def depthwise_kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    """Gradient of `sum(depthwise(x, kernel, options) * cotangent)` by `kernel`.

    Row after row, products are added up without leaving their columns; columns and
    images are summed at the end, so that a sharded batch takes one sum over devices.
    """
    batch, h, w, channels = cotangent.shape
    padded = pad_to(x, options.pads, _padded_size((h, w), kernel, options))
    padded = lax.optimization_barrier(padded)
    wide = wide_dtype(x)

    def add_row(
        totals: tuple[Array, ...], row: Array
    ) -> tuple[tuple[Array, ...], None]:
        part = lax.dynamic_index_in_dim(cotangent, row, 1, keepdims=False).astype(wide)
        sums: list[Array] = []
        for u in range(kernel.shape[0]):
            start = row * options.stride[0] + u * options.dilation[0]
            line = lax.dynamic_index_in_dim(padded, start, 1, keepdims=False)
            for v in range(kernel.shape[1]):
                seen = line[:, options.seen(v, w, 1)].astype(wide)
                sums.append(totals[len(sums)] + seen * part)
        return tuple(sums), None

    taps = kernel.shape[0] * kernel.shape[1]
    zeros = (jnp.zeros((batch, w, channels), wide),) * taps
    unroll = min(_UNROLL, h)
    totals, _ = lax.scan(add_row, zeros, jnp.arange(h), unroll=unroll)
    gradient = jnp.stack([total.sum((0, 1)) for total in totals])
    return gradient.reshape(kernel.shape).astype(kernel.dtype)


def _sum_of_taps(
    padded: Array, kernel: Array, size: tuple[int, int], options: Options
) -> Array:
    """Adds up, for `size` outputs, each tap times the pixels that it sees."""
    # Written out once: fused with the padding, each tap would ask where the border is.
    padded = lax.optimization_barrier(padded)
    wide = wide_dtype(padded)
    taps = kernel[:, :, 0].astype(wide)
    total = jnp.zeros((), wide)[None, None, None, None]
    for u in range(kernel.shape[0]):
        rows = options.seen(u, size[0], 0)
        for v in range(kernel.shape[1]):
            seen = padded[:, rows, options.seen(v, size[1], 1)]
            total = total + seen.astype(wide) * taps[u, v][None, None, None]
    return total


def _padded_size(
    size: tuple[int, int], kernel: Array, options: Options
) -> tuple[int, int]:
    """The size of the padded map that an output of `size` reads."""
    down, across = (options.num_inputs(size[i], kernel.shape[i], i) for i in (0, 1))
    return down, across
