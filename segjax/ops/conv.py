"""Convolution and its adjoint, the transposed convolution.

Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep
learning", 2016, arXiv:1603.07285.
"""

from __future__ import annotations

from jax import lax

from segjax.types import Array

Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

_NHWC = ("NHWC", "HWIO", "NHWC")


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
    strides = _pair("stride", stride, 1)
    pads = _sides(padding)
    dilations = _pair("dilation", dilation, 1)
    _check(x, kernel)
    _check_groups(groups, kernel.shape[3])
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
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilations,
        dimension_numbers=_NHWC,
        feature_group_count=groups,
    )


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
    strides = _pair("stride", stride, 1)
    pads = _sides(padding)
    extra = _pair("output_padding", output_padding, 0)
    dilations = _pair("dilation", dilation, 1)
    _check(x, kernel)
    _check_groups(groups, kernel.shape[3])
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
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape, strict=False)]
    full = [
        (r - low, r - high + more)
        for r, (low, high), more in zip(reach, pads, extra, strict=True)
    ]
    for axis, name in enumerate(("height", "width")):
        size = (x.shape[1 + axis] - 1) * strides[axis] + 1 + sum(full[axis])
        if size - reach[axis] < 1:
            raise ValueError(
                f"padding {padding} leaves no pixel of the output's {name} for x {x.shape}."
            )
    return lax.conv_general_dilated(
        x,
        _adjoint_kernel(kernel, groups),
        (1, 1),
        full,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        dimension_numbers=_NHWC,
        feature_group_count=groups,
    )


def _adjoint_kernel(kernel: Array, groups: int) -> Array:
    """Turns `[kh, kw, I / groups, O]` about and swaps I and O within each group."""
    height, width, inner, outer = kernel.shape
    blocks = kernel[::-1, ::-1].reshape(height, width, inner, groups, outer // groups)
    swapped = blocks.transpose(0, 1, 4, 3, 2)
    return swapped.reshape(height, width, outer // groups, groups * inner)


def _pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise ValueError(
            f"{name} must be an integer >= {least} or a pair of them, got {value!r}."
        )
    return pair


def _sides(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Reads the three ways to write padding as `((top, bottom), (left, right))`."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    sides = _pair("padding", rows, 0), _pair("padding", columns, 0)
    return sides


def _check(x: Array, kernel: Array) -> None:
    for name, array in (("x", x), ("kernel", kernel)):
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 axes, got shape {array.shape}.")


def _check_groups(groups: int, outputs: int) -> None:
    if groups < 1 or outputs % groups:
        raise ValueError(
            f"groups={groups} must divide the kernel's last axis {outputs}."
        )
