"""Transposed convolution: the adjoint of `conv`, as the lecture has it ("not deconvolution").

Here its arguments are checked and its form is chosen. The plain definition is that of XLA,
`segjax.ops.base.lax_conv.stock_conv_transpose`; as the transpose of a matrix that one can
print, `segjax.ops.convolution.toeplitz`.

Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep
learning", 2016, arXiv:1603.07285.
"""

from __future__ import annotations

from segjax.ops.base.arguments import Pair, pair
from segjax.ops.base.forms import is_fast_on_cpu, is_plain
from segjax.ops.base.lax_conv import Options, stock_conv_transpose
from segjax.ops.convolution.adjoint import adjoint_conv
from segjax.ops.convolution.arguments import (
    Padding,
    check_groups,
    check_ranks,
    read_padding,
)
from segjax.ops.cpu import convolution as cpu
from segjax.ops.cpu.blocks import conv_transpose_blocks, is_blockwise
from segjax.types import Array


def conv_transpose(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Applies the adjoint of `conv`: every input pixel adds a scaled kernel.

    Pixel `(i, j)` of `x` adds `x[b, i, j] * kernel` to the output at `(s i - p, s j - p)`;
    what falls outside is cropped. It is the transpose of the matrix of `conv` with
    the same options, not its inverse.

    Args:
      x: feature map `[B, h, w, C]`.
      kernel: `[kh, kw, F / groups, C]`, the kernel of the convolution from F to C
        channels whose adjoint this is; PyTorch's `[C, F, kh, kw]` transposed by
        `(2, 3, 1, 0)` when there is one group.
      stride: output pixels from one input pixel to the next, a number or a pair.
      padding: rows and columns cropped from the output, as in `conv`.
      output_padding: rows and columns added at the bottom and the right, because
        `stride` sizes of the input of `conv` share one size of its output.
      dilation: pixels from one kernel tap to the next, a number or a pair.
      groups: number of blocks into which channels are split.

    Returns:
      `[B, H, W, F]` with
      `H = (h - 1) stride - top - bottom + dilation (kh - 1) + 1 + output_padding`.

    Raises:
      ValueError: a shape or an option does not fit; the message names it.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
      >>> conv_transpose(x, x.reshape(2, 2, 1, 1))[0, :, :, 0].tolist()
      [[0.0, 0.0, 1.0], [0.0, 4.0, 6.0], [4.0, 12.0, 9.0]]
    """
    strides = pair("stride", stride, 1)
    pads = read_padding(padding)
    extra = pair("output_padding", output_padding, 0)
    dilations = pair("dilation", dilation, 1)
    check_ranks(x, kernel)
    check_groups(groups, kernel.shape[3])
    if x.shape[3] != kernel.shape[3]:
        raise ValueError(
            f"kernel {kernel.shape} reads {kernel.shape[3]} channels (its last axis), "
            f"but x {x.shape} has {x.shape[3]}."
        )
    for more, s, d in zip(extra, strides, dilations, strict=True):
        if more >= max(s, d):
            raise ValueError(
                f"output_padding {output_padding} must be smaller than stride {stride} "
                f"or dilation {dilation}."
            )
    size = []
    for axis, name in enumerate(("height", "width")):
        reach = dilations[axis] * (kernel.shape[axis] - 1)
        full = (x.shape[1 + axis] - 1) * strides[axis] + reach + 1 + extra[axis]
        size.append(full - sum(pads[axis]))
        if size[axis] < 1:
            raise ValueError(
                f"padding {padding} crops the whole {name} of the output, {full} "
                f"pixels for x {x.shape}."
            )
    options = Options(strides, pads, dilations, groups)
    sides = size[0], size[1]
    if is_plain():
        return stock_conv_transpose(x, kernel, options, sides)
    if not is_fast_on_cpu():
        return adjoint_conv(x, kernel, options, sides)
    if is_blockwise(x, kernel, options, sides):
        return conv_transpose_blocks(x, kernel)
    return cpu.conv_transpose(x, kernel, options, sides)
