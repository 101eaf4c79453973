"""Cropping and resizing."""

from __future__ import annotations

from segjax.types import Array


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
