"""XLA's own convolution, and where the taps of a kernel lie."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from segjax.types import Array

NHWC = ("NHWC", "HWIO", "NHWC")


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

    def reach(self, taps: int, axis: int) -> int:
        """Pixels from the first of `taps` to the last, along an axis."""
        return self.dilation[axis] * (taps - 1)

    def output_size(self, x: Array, kernel: Array) -> tuple[int, int]:
        """Height and width of the convolution of `[B, H, W, C]` with `[kh, kw, ..]`."""
        height, width = (
            (size + sum(self.pads[axis]) - self.reach(kernel.shape[axis], axis) - 1)
            // self.stride[axis]
            + 1
            for axis, size in enumerate(x.shape[1:3])
        )
        return height, width

    def num_inputs(self, outputs: int, taps: int, axis: int) -> int:
        """Padded input pixels that `outputs` pixels read."""
        return (outputs - 1) * self.stride[axis] + self.reach(taps, axis) + 1

    def seen(self, tap: int, outputs: int, axis: int) -> slice:
        """The padded input pixels that one tap reads for `outputs` pixels."""
        start, step = tap * self.dilation[axis], self.stride[axis]
        return slice(start, start + (outputs - 1) * step + 1, step)


def stock_conv(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves `[B, H, W, C]` with `[kh, kw, C / groups, F]`, as XLA does it."""
    return lax.conv_general_dilated(
        x,
        kernel,
        options.stride,
        options.pads,
        rhs_dilation=options.dilation,
        dimension_numbers=NHWC,
        feature_group_count=options.groups,
    )


def pad_to(x: Array, pads: tuple[tuple[int, int], ...], size: tuple[int, int]) -> Array:
    """Pads the upper left as `pads` says, and pads or crops the rest to `size`."""
    config = [(0, 0, 0)] * 4
    for axis, (low, _) in enumerate(pads):
        config[1 + axis] = (low, size[axis] - low - x.shape[1 + axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def stock_conv_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `stock_conv` for an image of `size`, as XLA does it."""
    adjoint, beside = as_conv(x, kernel, options, size)
    return lax.conv_general_dilated(
        x,
        adjoint,
        (1, 1),
        beside.pads,
        lhs_dilation=options.stride,
        rhs_dilation=options.dilation,
        dimension_numbers=NHWC,
        feature_group_count=options.groups,
    )


def as_conv(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> tuple[Array, Options]:
    """The kernel and the padding by which a convolution is the adjoint of another.

    Where that has a stride, the pixels of `x` are to be spread by it first.
    """
    pads = []
    for axis, (low, _) in enumerate(options.pads):
        reach = options.dilation[axis] * (kernel.shape[axis] - 1)
        spread = (x.shape[1 + axis] - 1) * options.stride[axis] + 1
        pads.append((reach - low, size[axis] + low - spread))
    beside = options._replace(stride=(1, 1), pads=(pads[0], pads[1]))
    return adjoint_kernel(kernel, options.groups), beside


def adjoint_kernel(kernel: Array, groups: int) -> Array:
    """Flips `[kh, kw, I / groups, O]` and swaps I and O within each group."""
    height, width, inner, outer = kernel.shape
    blocks = kernel[::-1, ::-1].reshape(height, width, inner, groups, outer // groups)
    swapped = blocks.transpose(0, 1, 4, 3, 2)
    return swapped.reshape(height, width, outer // groups, groups * inner)
