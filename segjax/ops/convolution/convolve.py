"""Convolution, with stride, padding, dilation and groups.

Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep
learning", 2016, arXiv:1603.07285.
"""

from __future__ import annotations

from segjax.ops.base.arguments import Pair, pair
from segjax.ops.base.forms import is_fast_on_cpu, is_plain
from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.arguments import (
    Padding,
    check_groups,
    check_ranks,
    read_padding,
)
from segjax.ops.convolution.unseen_taps import drop_unseen_taps
from segjax.ops.cpu import convolution as cpu
from segjax.types import Array


def conv(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolves an image with a kernel that is not flipped (cross-correlation).

    `y[b, i, j, f] = sum_{u, v, c} x[b, s i + d u - p, s j + d v - p, c] k[u, v, c, f]`,
    where `x` counts as zero outside the image.

    Args:
      x: feature map `[B, H, W, C]`.
      kernel: `[kh, kw, C / groups, F]`.
      stride: pixels from one output to the next, one number or `(down, across)`.
      padding: rows and columns of zeros around `x`: one number, `(ph, pw)`, or
        `((top, bottom), (left, right))`.
      dilation: pixels from one kernel tap to the next, one number or a pair.
      groups: number of blocks into which channels are split; block i of the
        output sees block i of the input alone.

    Returns:
      `[B, h, w, F]` with `h = (H + top + bottom - dilation (kh - 1) - 1) // stride + 1`.

    Raises:
      ValueError: a shape or an option does not fit; the message names it.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 1, 8, 1)
      >>> w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
      >>> conv(x, w, dilation=2).ravel().tolist()
      [22.0, 28.0, 34.0, 40.0]
    """
    strides = pair("stride", stride, 1)
    pads = read_padding(padding)
    dilations = pair("dilation", dilation, 1)
    check_ranks(x, kernel)
    check_groups(groups, kernel.shape[3])
    if x.shape[3] != kernel.shape[2] * groups:
        raise ValueError(
            f"kernel {kernel.shape} reads {kernel.shape[2]} x {groups} channels "
            f"(groups={groups}), but x {x.shape} has {x.shape[3]}."
        )
    for axis, name in enumerate(("height", "width")):
        size = x.shape[1 + axis] + sum(pads[axis])
        need = dilations[axis] * (kernel.shape[axis] - 1) + 1
        if size < need:
            raise ValueError(
                f"x {x.shape} with padding {pads[axis]} has {name} {size}; the kernel "
                f"{kernel.shape} at dilation {dilations[axis]} needs at least {need}."
            )
    options = Options(strides, pads, dilations, groups)
    if is_plain():
        return stock_conv(x, kernel, options)
    kernel, options = drop_unseen_taps(x, kernel, options)
    form = cpu.conv if is_fast_on_cpu() else stock_conv
    return form(x, kernel, options)
