"""Convolution that leaves out the taps of a dilated kernel that lie outside the map.

At a large dilation most taps of most pixels read padding: of a 3x3 kernel at dilation 24
on a map of 32 x 32, three quarters of all products are with zeros. DeepLab v3 notes that
such a kernel "degenerates" (Chen et al. 2017, arXiv 1706.05587, section 3.3); here that
is what makes it cheap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.lax_conv import Options
from segjax.types import Array

_FRACTION = 0.8
"""Fraction of all products above which the stock form is faster."""
_FEW_CHANNELS = 64
"""Channels below which a product of matrices is not fast."""


def is_sparse(x: Array, kernel: Array, options: Options) -> bool:
    """Whether `seen_taps_conv` is faster than the stock form, on a CPU."""
    if (
        options.dilation == (1, 1)
        or options.stride != (1, 1)
        or options.groups != 1
        or min(kernel.shape[2:]) < _FEW_CHANNELS
    ):
        return False
    fractions = []
    for axis, size in enumerate(options.output_size(x, kernel)):
        seen = [part.outer for part in _ranges(x, kernel, options, axis)]
        pixels = sum(max(part.stop - part.start, 0) for part in seen)
        fractions.append(pixels / (size * len(seen)))
    return fractions[0] * fractions[1] <= _FRACTION


@partial(jax.jit, static_argnames="options")
def seen_taps_conv(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves at a stride of 1 and one group, as a product of matrices for each tap.

    Args:
      x: feature map `[B, H, W, C]`.
      kernel: `[kh, kw, C, F]`.
      options: where the taps lie.

    Returns:
      `[B, h, w, F]`.
    """
    height, width = options.output_size(x, kernel)
    total = jnp.zeros((x.shape[0], height, width, kernel.shape[3]), wide_dtype(x))
    for tap, inner, outer in _seen(x, kernel, options):
        part = jnp.einsum(
            "bhwc,cf->bhwf",
            x[:, *inner],
            kernel[tap],
            preferred_element_type=total.dtype,
        )
        rows, columns = outer
        around = (
            (0, 0, 0),
            (rows.start, height - rows.stop, 0),
            (columns.start, width - columns.stop, 0),
            (0, 0, 0),
        )
        total = total + lax.pad(part, jnp.zeros((), part.dtype), around)
    return total.astype(x.dtype)


def seen_taps_kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    """Gradient of `sum(seen_taps_conv(x, kernel) * cotangent)` with respect to `kernel`.

    Args:
      x: feature map `[B, H, W, C]`.
      cotangent: `[B, h, w, F]`.
      kernel: `[kh, kw, C, F]`; of it only the shape matters.
      options: where the taps lie.

    Returns:
      `[kh, kw, C, F]`; 0 at the taps that read padding alone.
    """
    shape, dtype = kernel.shape[2:], wide_dtype(x)
    parts = {
        tap: jnp.einsum(
            "bhwc,bhwf->cf",
            x[:, *inner],
            cotangent[:, *outer],
            preferred_element_type=dtype,
        )
        for tap, inner, outer in _seen(x, kernel, options)
    }
    taps = itertools.product(range(kernel.shape[0]), range(kernel.shape[1]))
    stacked = jnp.stack([parts.get(tap, jnp.zeros(shape, dtype)) for tap in taps])
    return stacked.reshape(kernel.shape).astype(kernel.dtype)


Slices = tuple[slice, slice]


def _seen(
    x: Array, kernel: Array, options: Options
) -> Iterator[tuple[tuple[int, int], Slices, Slices]]:
    """Each tap that reads the map, the pixels that it reads, and for which outputs."""
    rows, columns = (_ranges(x, kernel, options, axis) for axis in (0, 1))
    for (u, down), (v, across) in itertools.product(
        enumerate(rows), enumerate(columns)
    ):
        if (
            down.outer.start < down.outer.stop
            and across.outer.start < across.outer.stop
        ):
            inner = down.inner, across.inner
            yield (u, v), inner, (down.outer, across.outer)


class _Range(NamedTuple):
    """Pixels of the map that a tap reads along an axis, and of the output."""

    inner: slice
    outer: slice


def _ranges(x: Array, kernel: Array, options: Options, axis: int) -> list[_Range]:
    """The range that each tap along an axis reads; empty where it reads padding alone."""
    size, outputs = x.shape[1 + axis], options.output_size(x, kernel)[axis]
    ranges = []
    for tap in range(kernel.shape[axis]):
        shift = tap * options.dilation[axis] - options.pads[axis][0]
        start, stop = max(0, -shift), min(outputs, size - shift)
        ranges.append(_Range(slice(start + shift, stop + shift), slice(start, stop)))
    return ranges
