"""Reading arrays at fractional coordinates, and beyond their borders."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segjax.types import Example

Coordinates = Callable[[slice], tuple[np.ndarray, np.ndarray]]
"""From a slice of rows of a picture to the rows and columns where it is read."""

EXACT = 1 << 24
"""Whole numbers up to this are float32."""

STRIP_PIXELS = 1 << 14
"""Of the rows that are warped at a time: some ten arrays of them fit into a cache of 512 KiB."""


def mirror(at: np.ndarray, length: int) -> np.ndarray:
    """Folds coordinates of an endlessly mirrored axis back to `[0, length - 1]`.

    The pixel at the edge is not repeated, as in `np.pad(mode="reflect")`. For whole
    coordinates `segjax.geometry.tiles.mirror_indices` says the same; `data` and `ops` do not
    know each other, so there are two.

    Args:
      at: coordinates, integers or floats, any shape.
      length: pixels along the axis.

    Returns:
      Coordinates of the same shape and dtype.

    Example:
      >>> import numpy as np
      >>> mirror(np.arange(-3, 6), 3)
      array([1, 2, 1, 0, 1, 2, 1, 0, 1])
    """
    last = length - 1
    if last == 0:
        return np.zeros_like(at)
    if at.min(initial=0) >= 0 and at.max(initial=0) <= last:
        return at
    return last - np.abs(np.mod(at, 2 * last) - last)


def displacement(nodes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolates values on a coarse grid to pixels, by bicubic splines.

    The grid's outer nodes lie on the outer pixels, where its values are met exactly; the
    result is that of `scipy.ndimage.zoom(order=3, mode="mirror")` for each plane.

    Args:
      nodes: `[..., g, g]` float32.
      size: `(height, width)`, pixels.

    Returns:
      `[..., height, width]` float32.
    """
    return displacement_of_rows(nodes, size)(slice(None))


def displacement_of_rows(
    nodes: np.ndarray, size: tuple[int, int]
) -> Callable[[slice], np.ndarray]:
    """Prepares `displacement`, of which a slice of rows can then be had.

    A spline is linear in its nodes and separable, so it is two products with small
    matrices, here as sums, since BLAS starts threads that the loading threads would have to
    wait for.

    Args:
      nodes: `[..., g, g]` float32.
      size: `(height, width)`, pixels.

    Returns:
      A function from rows to `[..., rows, width]` float32.
    """
    vertical, horizontal = (_spline_matrix(n, nodes.shape[-1]) for n in size)
    every = np.einsum("iy,...ij->...yj", vertical, nodes)

    def displaced(rows: slice) -> np.ndarray:
        first, *others = np.moveaxis(every[..., rows, :], -1, 0)[..., None]
        total = first * horizontal[0]
        term = np.empty_like(total)
        for values, spline in zip(others, horizontal[1:], strict=True):
            total += np.multiply(values, spline, out=term)
        return total

    return displaced


@functools.lru_cache(maxsize=64)
def _spline_matrix(length: int, nodes: int) -> np.ndarray:
    """Cubic spline from nodes to pixels, `[nodes, length]`: the spline of each unit vector."""
    at = np.linspace(0, nodes - 1, length)[None]
    splines = [ndimage.map_coordinates(e, at, mode="mirror") for e in np.eye(nodes)]
    return np.stack(splines).astype(np.float32)


def sample(example: Example, rows: np.ndarray, columns: np.ndarray) -> Example:
    """Reads an example at fractional coordinates, mirroring beyond its borders.

    Args:
      example: `image` `[H, W, C]` is read bilinearly; everything else `[H, W]` from the
        nearest pixel.
      rows: coordinates `[h, w]` float32, pixels; 0 is the centre of the first.
      columns: the same along the other axis.

    Returns:
      The example at these points, `[h, w]` each.
    """
    height, width = rows.shape
    return sample_rows(example, (height, width), lambda at: (rows[at], columns[at]))


def sample_rows(
    example: Example, size: tuple[int, int], coordinates: Coordinates
) -> Example:
    """Reads an example as `sample` does, a few rows at a time.

    What is computed on the way then stays in the core's cache, which for 572 x 572 pixels
    takes half the time.

    Args:
      example: as for `sample`.
      size: `(h, w)` of what is read.
      coordinates: the rows and columns `[n, w]` of a slice of the `h` rows.

    Returns:
      The example at these points, `[h, w]` each.
    """
    height, width = example["image"].shape[:2]
    pixels = {key: _flat(values) for key, values in example.items()}
    out = {
        key: np.empty((*size, *values.shape[2:]), values.dtype)
        for key, values in example.items()
    }
    for strip in strips(*size):
        rows, columns = coordinates(strip)
        y, x = mirror(rows, height), mirror(columns, width)
        nearest = places(np.rint(y), np.rint(x), (height, width))
        for key, values in pixels.items():
            if key == "image":
                out[key][strip] = _bilinear(values, y, x, (height, width))
            else:
                out[key][strip] = values.take(nearest)
    return out


def strips(height: int, width: int) -> list[slice]:
    """Cuts rows into slices of about `STRIP_PIXELS` pixels.

    Example:
      >>> strips(3, STRIP_PIXELS // 2)
      [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, STRIP_PIXELS // max(width, 1))
    return [slice(i, min(i + step, height)) for i in range(0, height, step)]


def places(y: np.ndarray, x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Places of pixels in the flattened image.

    Args:
      y: rows, whole numbers in float32, any shape.
      x: columns, likewise.
      size: `(height, width)` of the image.

    Returns:
      Indices for `take`, of the same shape.
    """
    height, width = size
    if height * width > EXACT:
        return y.astype(np.intp) * width + x.astype(np.intp)
    at = y * y.dtype.type(width)
    at += x
    return at.astype(np.int32).astype(np.intp)  # faster than at once


def bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Interpolates an image at points inside of it.

    Args:
      image: `[H, W, C]` of a floating type.
      y: coordinates `[h, w]` float32 in `[0, H - 1]`.
      x: coordinates `[h, w]` float32 in `[0, W - 1]`.

    Returns:
      `[h, w, C]` of the image's type.
    """
    height, width, channels = image.shape
    pixels = _flat(image)
    out = np.empty((*y.shape, channels), image.dtype)
    for strip in strips(*y.shape):
        out[strip] = _bilinear(pixels, y[strip], x[strip], (height, width))
    return out


def _bilinear(
    pixels: np.ndarray, y: np.ndarray, x: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Interpolates between the flattened pixels `[H * W, C]` of an image."""
    height, width = size
    top, down = _before(y, height)
    left, right = _before(x, width)
    down, right = (
        after.astype(pixels.dtype, copy=False)[..., None] for after in (down, right)
    )
    at = places(top, left, size)
    beside, below = pixels[int(width > 1) :], width * int(height > 1)
    upper = _between(pixels.take(at, axis=0), beside.take(at, axis=0), right)
    pixels, beside = pixels[below:], beside[below:]
    lower = _between(pixels.take(at, axis=0), beside.take(at, axis=0), right)
    return _between(upper, lower, down)


def _before(at: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels before coordinates, and how far these are behind them."""
    first, last = np.floor(at), max(length - 2, 0)
    if first.max(initial=0) > last:  # it is cheaper to look than to clip
        np.minimum(first, last, out=first)
    return first, at - first


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`first + (second - first) * share`, in the memory of the two."""
    second -= first
    second *= share
    first += second
    return first


def _flat(values: np.ndarray) -> np.ndarray:
    """`[H, W]` as `[H * W]`, and `[H, W, C]` as `[H * W, C]`."""
    return values.reshape(-1, *values.shape[2:])


def picked(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Copies rows and columns of an array, `values[np.ix_(rows, columns)]`.

    One axis after the other, and neighbours at once, are several times as fast.

    Args:
      values: `[H, W]` or `[H, W, C]`.
      rows: places along the first axis, `[h]` integer.
      columns: likewise along the second, `[w]`.

    Returns:
      `[h, w]` or `[h, w, C]`, to be written into.

    Example:
      >>> picked(np.arange(9).reshape(3, 3), np.array([1, 0]), np.array([1, 2])).tolist()
      [[4, 5], [1, 2]]
    """
    first, last = rows[0], rows[-1] + 1
    if np.array_equal(rows, np.arange(first, last)):
        part = values[first:last]
    else:
        part = values.take(rows, axis=0)
    first, last = columns[0], columns[-1] + 1
    if not np.array_equal(columns, np.arange(first, last)):
        return part.take(columns, axis=1)
    return part[:, first:last].copy()


def between_rows_and_columns(
    image: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Interpolates an image on a grid of rows and columns, one axis after the other.

    Args:
      image: `[H, W, C]` of any type.
      y: coordinates of the rows, `[h]` float32; those outside are those of the edge.
      x: coordinates of the columns, `[w]` float32.

    Returns:
      `[h, w, C]` float32, equal to `bilinear` at all pairs of them.
    """
    height, width, channels = image.shape
    top, bottom, down = neighbours(y, height)
    left, right, along = neighbours(x, width)
    first, last = left.min(), right.max() + 1
    image, left, right = image[:, first:last], left - first, right - first
    out = np.empty((len(y), len(x), channels), np.float32)
    for strip in strips(len(y), max(len(x), last - first) * channels):
        rows = image[top[strip]].astype(np.float32)
        below = image[bottom[strip]].astype(np.float32)
        rows = _between(rows, below, down[strip, None, None])
        beside = rows.take(right, axis=1)
        out[strip] = _between(rows.take(left, axis=1), beside, along[:, None])
    return out


def neighbours(
    at: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels on both sides of coordinates, and the weight of the second."""
    at = np.clip(at, 0, length - 1)
    before = at.astype(np.intp)
    return before, np.minimum(before + 1, length - 1), at - before.astype(np.float32)
