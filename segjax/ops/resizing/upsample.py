"""Transposed convolutions that enlarge by a whole factor, in their fast form.

With a kernel of at most twice the stride, an output pixel sees two input pixels along
each axis. The output then falls into blocks of `factor` pixels, each made of the input
pixels on its two sides: a convolution with two taps whose channels are the pixels of a
block. As a convolution of an input that is spread out with zeros, a kernel of 64 and a
stride of 32 would do a thousand times the work.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from segjax.geometry.alignment import bilinear_taps
from segjax.ops.convolution.convolve import conv
from segjax.ops.resizing.resize import bilinear_profile
from segjax.types import Array


def upsample_bilinear(x: Array, *, factor: int, taps: int | None = None) -> Array:
    """Interpolates as a transposed convolution with the bilinear kernel does.

    The same as `conv_transpose(x, bilinear_kernel(taps, channels=C, groups=C),
    stride=factor, groups=C)`: beyond the outermost pixels the result fades to zero.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      factor: output pixels from one input pixel to the next.
      taps: side of the kernel, at most `2 factor`; by default `2 factor`, less one
        if `factor` is odd.

    Returns:
      `[B, factor (H - 1) + taps, factor (W - 1) + taps, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `factor` or `taps` is out of range.

    Example:
      >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
      >>> (4 * upsample_bilinear(x, factor=2))[0, 1, :, 0].tolist()
      [0.75, 2.25, 3.75, 5.25, 6.75, 8.25, 6.75, 2.25]
    """
    taps = bilinear_taps(factor) if taps is None else taps
    _check(factor, taps)
    profile = np.zeros(2 * factor, np.float32)
    profile[:taps] = bilinear_profile(taps)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis in (1, 2):
        before, after = [(0, 0)] * 4, [(0, 0)] * 4
        before[axis], after[axis] = (1, 0), (0, 1)
        near, far = (jnp.asarray(half, wide.dtype) for half in np.split(profile, 2))
        shape = [1] * 5
        shape[axis + 1] = factor
        y = jnp.expand_dims(jnp.pad(wide, after), axis + 1) * near.reshape(shape)
        y += jnp.expand_dims(jnp.pad(wide, before), axis + 1) * far.reshape(shape)
        joined = [*wide.shape]
        joined[axis] = factor * (wide.shape[axis] + 1)
        length = factor * (wide.shape[axis] - 1) + taps
        y = y.reshape(joined)
        wide = y[:, :length] if axis == 1 else y[:, :, :length]
    return wide.astype(x.dtype)


def upsample_conv(x: Array, kernel: Array, *, factor: int) -> Array:
    """Applies a transposed convolution of stride `factor`.

    The same as `conv_transpose(x, kernel, stride=factor)`.

    Args:
      x: maps `[B, H, W, C]`.
      kernel: `[taps, taps, F, C]`, with at most `2 factor` taps.
      factor: output pixels from one input pixel to the next.

    Returns:
      `[B, factor (H - 1) + taps, factor (W - 1) + taps, F]`.

    Raises:
      ValueError: if the kernel has another shape.

    Example:
      >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> kernel = jnp.array([[1.0, 2.0], [0.0, 1.0]]).reshape(2, 2, 1, 1)
      >>> upsample_conv(x, kernel, factor=2)[0, :, :, 0].tolist()
      [[1.0, 2.0, 2.0, 4.0], [0.0, 1.0, 0.0, 2.0], [3.0, 6.0, 4.0, 8.0], [0.0, 3.0, 0.0, 4.0]]
    """
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel is {kernel.shape}; allowed is [taps, taps, F, C]")
    batch, height, width, channels = x.shape
    taps, _, features, _ = kernel.shape
    _check(factor, taps)
    if kernel.shape[3] != channels:
        raise ValueError(
            f"kernel {kernel.shape} reads {kernel.shape[3]} channels (its last axis), "
            f"but x {x.shape} has {channels}"
        )
    more = (0, 2 * factor - taps)
    whole = jnp.pad(kernel, (more, more, (0, 0), (0, 0)))
    # The halves of each axis are the two taps, last half first.
    halves = whole.reshape(2, factor, 2, factor, features, channels)[::-1, :, ::-1]
    blocks = halves.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, channels, -1)
    y = conv(x, blocks, padding=1)
    y = y.reshape(batch, height + 1, width + 1, factor, factor, features)
    y = y.transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, factor * (height + 1), factor * (width + 1), features)
    return y[:, : factor * (height - 1) + taps, : factor * (width - 1) + taps]


def _check(factor: int, taps: int) -> None:
    if factor < 1:
        raise ValueError(f"factor is {factor}; it must be at least 1")
    if not 1 <= taps <= 2 * factor:
        raise ValueError(
            f"taps is {taps}; for a factor of {factor} allowed is 1 to {2 * factor}"
        )
