"""Convolution and its adjoint in the forms that XLA's CPU backend does fastest.

Left to itself it is slow at kernel gradients, at channels by themselves, at kernels of one
pixel, and at taps that see nothing but padding; and large convolutions of 3x3 can do with fewer
multiplications. Which form a convolution takes is chosen here, by its shapes; the numbers are
those of `segjax.ops.base.lax_conv` to rounding.

These forms have many operations. So they are jitted, each of them alone: convolutions of equal
shapes share one trace, which a network of a hundred of them is traced in seconds by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax

from segjax.ops.base.lax_conv import (
    Options,
    as_conv,
    pad_to,
    stock_conv,
    stock_conv_transpose,
)
from segjax.ops.cpu.depthwise import (
    depthwise,
    depthwise_kernel_gradient,
    depthwise_transpose,
    is_depthwise,
)
from segjax.ops.cpu.kernel_gradients import kernel_gradient
from segjax.ops.cpu.pointwise import is_pointwise, pointwise, pointwise_transpose
from segjax.ops.cpu.skip_padding import (
    is_sparse,
    seen_taps_conv,
    seen_taps_kernel_gradient,
)
from segjax.ops.cpu.winograd import (
    is_worth_it,
    suited,
    winograd,
    winograd_kernel_gradient,
    winograd_transpose,
)
from segjax.types import Array


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves as `stock_conv` does; so do its gradients."""
    return _fast_form(x, kernel, options)(x, kernel)


def _fast_form(
    x: Array, kernel: Array, options: Options
) -> Callable[[Array, Array], Array]:
    """The fastest form that gives the same numbers."""
    if is_depthwise(kernel, options):
        return partial(depthwise, options=options)
    if is_pointwise(kernel, options):
        return partial(pointwise, options=options)
    if is_worth_it(x, kernel, options):
        return partial(winograd, options=options)
    if is_sparse(x, kernel, options):
        return partial(seen_taps_conv, options=options)
    return partial(stock_conv, options=options)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `conv` for an image of `size`."""
    if is_depthwise(kernel, options):
        return depthwise_transpose(x, kernel, options=options, size=size)
    if is_pointwise(kernel, options):
        return pointwise_transpose(x, kernel, options=options, size=size)
    if options.stride == (1, 1):
        adjoint = as_conv(x, kernel, options, size)
        if is_worth_it(x, *adjoint, tiles=64):
            return winograd_transpose(x, kernel, options=options, size=size)
        if is_sparse(x, *adjoint):
            return seen_taps_conv(x, *adjoint)
    return stock_conv_transpose(x, kernel, options, size)


Pairs = tuple[Array, Array]


def _conv_forward(x: Array, kernel: Array, options: Options) -> tuple[Array, Pairs]:
    return conv(x, kernel, options), (x, kernel)


@partial(jax.jit, static_argnums=0)
def _conv_backward(options: Options, kept: Pairs, cotangent: Array) -> Pairs:
    x, kernel = kept
    _, height, width, _ = x.shape
    return (
        conv_transpose(cotangent, kernel, options, (height, width)),
        _kernel_gradient(x, cotangent, kernel, options),
    )


def _conv_transpose_forward(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> tuple[Array, Pairs]:
    return conv_transpose(x, kernel, options, size), (x, kernel)


@partial(jax.jit, static_argnums=(0, 1))
def _conv_transpose_backward(
    options: Options, size: tuple[int, int], kept: Pairs, cotangent: Array
) -> Pairs:
    # The adjoint of the adjoint: image and cotangent have changed places.
    x, kernel = kept
    # Output padding of a stride or more leaves pixels that no pixel of `x` has reached.
    image = conv(cotangent, kernel, options)
    _, height, width, _ = x.shape
    reached = pad_to(x, ((0, 0), (0, 0)), (image.shape[1], image.shape[2]))
    return (
        image[:, :height, :width],
        _kernel_gradient(cotangent, reached, kernel, options),
    )


def _kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    if is_depthwise(kernel, options):
        return depthwise_kernel_gradient(x, cotangent, kernel=kernel, options=options)
    if is_worth_it(x, kernel, options, channels=32):
        return winograd_kernel_gradient(
            x, cotangent, kernel, options=options, transform=suited(kernel)
        )
    if is_sparse(x, kernel, options):
        return seen_taps_kernel_gradient(x, cotangent, kernel=kernel, options=options)
    return kernel_gradient(x, cotangent, kernel=kernel, options=options)


conv.defvjp(_conv_forward, _conv_backward)
conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)
