"""Resizing and cropping of maps `[B, H, W, C]`.

Resizing is linear and separable: columns, then rows, each by `segjax.ops.resizing.resampling`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import check_floating, check_maps, pair
from segjax.ops.resizing.resampling import Resampling, gather, resample
from segjax.types import Array


def _resize(x: Array, height: int, width: int, rule: str) -> Array:
    for axis, count in ((2, width), (1, height)):
        if x.shape[axis] != count:
            x = resample(x, axis, Resampling(rule, x.shape[axis], count))
    return x


def resize_bilinear(
    x: Array, *, size: tuple[int, int], align_corners: bool = False
) -> Array:
    """Interpolates linearly along rows and columns.

    Output pixel `i` reads the input at `i (in - 1) / (out - 1)` when corners are
    aligned (Caffe's Interp, DeepLab, PSPNet), and at `(i + 1/2) in / out - 1/2`, held
    inside the map, when they are not (torchvision, JAX). Nothing is smoothed before
    shrinking. Sums are in float32 at least.

    The gradient is by reverse mode; `jax.jvp` is not defined.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      size: height and width of the result in pixels.
      align_corners: whether the middles of the corner pixels stay where they are; else
        the outer edges of the map do.

    Returns:
      `[B, *size, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is below 1 or `x` is of another shape or dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([0.0, 10.0, 20.0, 30.0]).reshape(1, 1, 4, 1)
      >>> resize_bilinear(x, size=(1, 2))[0, 0, :, 0].tolist()
      [5.0, 25.0]
      >>> resize_bilinear(x, size=(1, 2), align_corners=True)[0, 0, :, 0].tolist()
      [0.0, 30.0]
    """
    check_maps(x)
    check_floating(x)
    height, width = pair("size", size, 1)
    rule = "corners" if align_corners else "edges"
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return _resize(wide, height, width, rule).astype(x.dtype)


def resize_nearest(x: Array, *, size: tuple[int, int]) -> Array:
    """Copies to output pixel `i` the input pixel `floor(i in / out)`.

    This is PyTorch's `nearest`. That of `jax.image.resize` reads `floor((i + 1/2) in /
    out)`, which is the same only when a size grows by a whole factor.

    Args:
      x: maps `[B, H, W, C]`; labels in any integer dtype stay exact.
      size: height and width of the result in pixels.

    Returns:
      `[B, *size, C]`, of the dtype of `x`.

    Raises:
      ValueError: if `size` is below 1 or `x` is of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(4).reshape(1, 1, 4, 1)
      >>> resize_nearest(x, size=(1, 3))[0, 0, :, 0].tolist()
      [0, 1, 2]
    """
    check_maps(x)
    height, width = pair("size", size, 1)
    if jnp.issubdtype(x.dtype, jnp.floating):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return _resize(wide, height, width, "nearest").astype(x.dtype)
    for axis, count in ((2, width), (1, height)):
        places = np.arange(count) * x.shape[axis] // count
        x = gather(x, axis, places.astype(np.int32))
    return x


def upsample_nearest(x: Array, *, factor: int | tuple[int, int]) -> Array:
    """Repeats each pixel over a block of `factor` pixels.

    Args:
      x: maps `[B, H, W, C]`.
      factor: how often along height and width; one number for both.

    Returns:
      `[B, factor H, factor W, C]`.

    Raises:
      ValueError: if `factor` is below 1 or `x` is of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> upsample_nearest(jnp.array([[[[1], [2]]]]), factor=2)[0, :, :, 0].tolist()
      [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    check_maps(x)
    rows, columns = pair("factor", factor, 1)
    batch, height, width, channels = x.shape
    shape = (batch, height, rows, width, columns, channels)
    blocks = jnp.broadcast_to(x[:, :, None, :, None], shape)
    return blocks.reshape(batch, height * rows, width * columns, channels)


def bed_of_nails(x: Array, *, factor: int | tuple[int, int]) -> Array:
    """Sets each pixel into the top left corner of a block of zeros.

    Args:
      x: maps `[B, H, W, C]`.
      factor: height and width of the block in pixels; one number for both.

    Returns:
      `[B, factor H, factor W, C]`.

    Raises:
      ValueError: if `factor` is below 1 or `x` is of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> bed_of_nails(jnp.array([[[[1], [2]]]]), factor=2)[0, :, :, 0].tolist()
      [[1, 0, 2, 0], [0, 0, 0, 0]]
    """
    check_maps(x)
    rows, columns = pair("factor", factor, 1)
    gaps = [
        (0, 0, 0),
        (0, rows - 1, rows - 1),
        (0, columns - 1, columns - 1),
        (0, 0, 0),
    ]
    return lax.pad(x, jnp.zeros((), x.dtype), gaps)


def bilinear_profile(taps: int) -> np.ndarray:
    """The triangle of a bilinear kernel along one axis.

    Enlarging by a whole factor `s` takes `2 s - s % 2` taps.

    Args:
      taps: number of taps.

    Returns:
      `[taps]`, float64.

    Raises:
      ValueError: if `taps` is below 1.

    Example:
      >>> bilinear_profile(4).tolist()
      [0.25, 0.75, 0.75, 0.25]
    """
    if taps < 1:
        raise ValueError(f"taps is {taps}; it must be at least 1")
    half = (taps + 1) // 2
    centre = half - 1 if taps % 2 else half - 0.5
    return 1 - np.abs(np.arange(taps) - centre) / half


def bilinear_kernel(taps: int, *, channels: int = 1, groups: int = 1) -> Array:
    """The kernel with which a transposed convolution interpolates bilinearly.

    FCN starts its upsampling layers with it (Long, Shelhamer & Darrell, 2015, arXiv
    1411.4038, section 3.3). Each channel is interpolated by itself, so the kernel is
    zero off the diagonal; with `groups=channels` only the diagonal is kept.

    Args:
      taps: height and width of the kernel; `2 s - s % 2` to enlarge by `s`.
      channels: channels of the map, before and after, C.
      groups: groups of the transposed convolution; a divisor of `channels`.

    Returns:
      `[taps, taps, C / groups, C]`, float32, for `segjax.ops.convolution.transposed.conv_transpose`.

    Raises:
      ValueError: if `taps` is below 1 or `groups` does not divide `channels`.

    Example:
      >>> bilinear_kernel(4, channels=21).shape
      (4, 4, 21, 21)
      >>> bilinear_kernel(4, channels=21, groups=21).shape
      (4, 4, 1, 21)
    """
    if channels < 1 or groups < 1 or channels % groups:
        raise ValueError(
            f"groups is {groups} for channels {channels}; allowed are its divisors"
        )
    profile = bilinear_profile(taps)
    within = channels // groups
    diagonal = np.tile(np.eye(within), groups)
    kernel = np.outer(profile, profile)[:, :, None, None] * diagonal
    return jnp.asarray(kernel, jnp.float32)


def crop(x: Array, *, offset: tuple[int, int], size: tuple[int, int]) -> Array:
    """Cuts out a rectangle.

    Args:
      x: maps `[B, H, W, C]`.
      offset: first row and first column to keep.
      size: height and width to keep.

    Returns:
      `[B, *size, C]`.

    Raises:
      ValueError: if the rectangle does not lie inside the map.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(12).reshape(1, 3, 4, 1)
      >>> crop(x, offset=(1, 2), size=(2, 2))[0, :, :, 0].tolist()
      [[6, 7], [10, 11]]
    """
    for axis, (first, length, whole) in enumerate(
        zip(offset, size, x.shape[1:3], strict=True)
    ):
        if first < 0 or length < 1 or first + length > whole:
            name = ("rows", "columns")[axis]
            raise ValueError(
                f"offset and size ask for {name} [{first}, {first + length}) of a map "
                f"that has {whole}; allowed is a non-empty part of [0, {whole})"
            )
    (top, left), (height, width) = offset, size
    return x[:, top : top + height, left : left + width]


def center_crop(x: Array, *, size: tuple[int, int]) -> Array:
    """Cuts out the middle; of an odd rest, the larger half goes at the end.

    Args:
      x: maps `[B, H, W, C]`.
      size: height and width to keep.

    Returns:
      `[B, *size, C]`.

    Raises:
      ValueError: if `size` is larger than the map.

    Example:
      >>> import jax.numpy as jnp
      >>> center_crop(jnp.zeros((1, 64, 64, 8)), size=(56, 56)).shape
      (1, 56, 56, 8)
    """
    _, height, width, _ = x.shape
    for side, length, whole in zip(
        ("height", "width"), size, (height, width), strict=True
    ):
        if not 1 <= length <= whole:
            raise ValueError(
                f"size asks for a {side} of {length}, but the map has {whole}; "
                f"allowed is 1 to {whole}"
            )
    offset = ((height - size[0]) // 2, (width - size[1]) // 2)
    return crop(x, offset=offset, size=size)
