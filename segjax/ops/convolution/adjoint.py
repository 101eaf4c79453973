"""The transposed convolution of accelerators: XLA's own, with gradients that flip nothing."""

from __future__ import annotations

from functools import partial

import jax

from segjax.ops.base.lax_conv import (
    Options,
    pad_to,
    stock_conv,
    stock_conv_transpose,
)
from segjax.types import Array

Pairs = tuple[Array, Array]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def adjoint_conv(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of a convolution, for an image of `size`.

    The form of `stock_conv_transpose` flips the kernel, and so does its gradient, for which
    compilers flip the maps instead. Here the gradients are those of the convolution that this
    is the adjoint of.

    Args:
      x: `[B, h, w, F]`.
      kernel: of that convolution, `[kh, kw, C / groups, F]`.
      options: of that convolution.
      size: height and width of its image.

    Returns:
      `[B, *size, C]`.
    """
    return stock_conv_transpose(x, kernel, options, size)


def _forward(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> tuple[Array, Pairs]:
    return adjoint_conv(x, kernel, options, size), (x, kernel)


def _backward(
    options: Options, size: tuple[int, int], kept: Pairs, cotangent: Array
) -> Pairs:
    x, kernel = kept
    image, of_kernel = jax.vjp(lambda k: stock_conv(cotangent, k, options), kernel)
    _, height, width, _ = x.shape
    # Output padding of a stride or more leaves pixels that no pixel of `x` has reached.
    reached = pad_to(x, ((0, 0), (0, 0)), (image.shape[1], image.shape[2]))
    return image[:, :height, :width], of_kernel(reached)[0]


adjoint_conv.defvjp(_forward, _backward)
