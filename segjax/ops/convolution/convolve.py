"""Convolution and its adjoint, the transposed convolution.

Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep
learning", 2016, arXiv:1603.07285.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.windows import Pair, pair
from segjax.ops.cpu.depthwise import (
    depthwise,
    depthwise_kernel_gradient,
    depthwise_transpose,
    is_depthwise,
)
from segjax.ops.cpu.kernel_gradients import (
    Options,
    kernel_gradient,
    pad_to,
    stock_conv,
    wide_dtype,
)
from segjax.ops.cpu.pointwise import is_pointwise, pointwise, pointwise_transpose
from segjax.ops.cpu.row_strips import strip_conv, strip_count
from segjax.ops.cpu.skip_padding import (
    drop_unseen_taps,
    is_sparse,
    seen_taps_conv,
    seen_taps_kernel_gradient,
)
from segjax.types import Array

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
    strides = pair("stride", stride, 1)
    pads = _sides(padding)
    dilations = pair("dilation", dilation, 1)
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
    options = Options(strides, pads, dilations, groups)
    return _conv(x, *drop_unseen_taps(x, kernel, options))


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
    pads = _sides(padding)
    extra = pair("output_padding", output_padding, 0)
    dilations = pair("dilation", dilation, 1)
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
    return _conv_transpose(x, kernel, options, (size[0], size[1]))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, options: Options) -> Array:
    stock = partial(stock_conv, options=options)
    quick = _quick_form(x, kernel, options)
    if quick is None:
        return stock(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=quick, default=stock)


def _quick_form(
    x: Array, kernel: Array, options: Options
) -> Callable[[Array, Array], Array] | None:
    """What gives the same numbers sooner on a CPU; None where nothing does."""
    if is_depthwise(kernel, options):
        return partial(depthwise, options=options)
    if is_pointwise(kernel, options):
        return partial(pointwise, options=options)
    if is_sparse(x, kernel, options):
        return partial(seen_taps_conv, options=options)
    count = strip_count(x, kernel, options)
    return None if count == 1 else partial(strip_conv, options=options, count=count)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `_conv` for an image of `size`."""
    if _is_blockwise(x, kernel, options, size):
        return _blocks(x, kernel)
    stock = partial(_stock_transpose, options=options, size=size)
    if is_depthwise(kernel, options):
        quick = partial(depthwise_transpose, options=options, size=size)
    elif is_pointwise(kernel, options):
        quick = partial(pointwise_transpose, options=options, size=size)
    elif options.stride == (1, 1) and is_sparse(x, *_as_conv(x, kernel, options, size)):
        quick = partial(_sparse_transpose, options=options, size=size)
    else:
        return stock(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=quick, default=stock)


def _sparse_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    return seen_taps_conv(x, *_as_conv(x, kernel, options, size))


def _stock_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    adjoint, beside = _as_conv(x, kernel, options, size)
    return lax.conv_general_dilated(
        x,
        adjoint,
        (1, 1),
        beside.pads,
        lhs_dilation=options.stride,
        rhs_dilation=options.dilation,
        dimension_numbers=_NHWC,
        feature_group_count=options.groups,
    )


def _as_conv(
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
    return _adjoint_kernel(kernel, options.groups), beside


Pairs = tuple[Array, Array]


def _conv_forward(x: Array, kernel: Array, options: Options) -> tuple[Array, Pairs]:
    return _conv(x, kernel, options), (x, kernel)


def _conv_backward(options: Options, kept: Pairs, cotangent: Array) -> Pairs:
    x, kernel = kept
    _, height, width, _ = x.shape
    return (
        _conv_transpose(cotangent, kernel, options, (height, width)),
        _kernel_gradient(x, cotangent, kernel, options),
    )


def _conv_transpose_forward(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> tuple[Array, Pairs]:
    return _conv_transpose(x, kernel, options, size), (x, kernel)


def _conv_transpose_backward(
    options: Options, size: tuple[int, int], kept: Pairs, cotangent: Array
) -> Pairs:
    # The adjoint of the adjoint: image and cotangent have changed places.
    x, kernel = kept
    if _is_blockwise(x, kernel, options, size):
        return jax.vjp(_blocks, x, kernel)[1](cotangent)
    # Output padding of a stride or more leaves pixels that no pixel of `x` has reached.
    image = _conv(cotangent, kernel, options)
    _, height, width, _ = x.shape
    reached = pad_to(x, ((0, 0), (0, 0)), (image.shape[1], image.shape[2]))
    return (
        image[:, :height, :width],
        _kernel_gradient(cotangent, reached, kernel, options),
    )


def _kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    stock = partial(kernel_gradient, kernel=kernel, options=options)
    if is_depthwise(kernel, options):
        quick = partial(depthwise_kernel_gradient, kernel=kernel, options=options)
    elif is_sparse(x, kernel, options):
        quick = partial(seen_taps_kernel_gradient, kernel=kernel, options=options)
    else:
        return stock(x, cotangent)
    return lax.platform_dependent(x, cotangent, cpu=quick, default=stock)


_conv.defvjp(_conv_forward, _conv_backward)
_conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)


def _is_blockwise(
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


def _blocks(x: Array, kernel: Array) -> Array:
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


def _adjoint_kernel(kernel: Array, groups: int) -> Array:
    """Turns `[kh, kw, I / groups, O]` about and swaps I and O within each group."""
    height, width, inner, outer = kernel.shape
    blocks = kernel[::-1, ::-1].reshape(height, width, inner, groups, outer // groups)
    swapped = blocks.transpose(0, 1, 4, 3, 2)
    return swapped.reshape(height, width, outer // groups, groups * inner)


def _sides(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Reads the three ways to write padding as `((top, bottom), (left, right))`."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    sides = pair("padding", rows, 0), pair("padding", columns, 0)
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
