"""Reading arrays at fractional coordinates, and beyond their borders."""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage

from segjax.types import Example


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
    result is that of `scipy.ndimage.zoom(order=3, mode="mirror")` for each plane. A spline
    is linear in its nodes and separable, so it is two products with small matrices, here
    as sums, since BLAS starts threads that the loading threads would have to wait for.

    Args:
      nodes: `[..., g, g]` float32.
      size: `(height, width)`, pixels.

    Returns:
      `[..., height, width]` float32.
    """
    vertical, horizontal = (_spline_matrix(n, nodes.shape[-1]) for n in size)
    rows = np.einsum("yi,...ij->...yj", vertical, nodes)
    terms = (rows[..., j, None] * horizontal[:, j] for j in range(nodes.shape[-1]))
    return functools.reduce(np.add, terms)


@functools.lru_cache(maxsize=64)
def _spline_matrix(length: int, nodes: int) -> np.ndarray:
    """Cubic spline from nodes to pixels, `[length, nodes]`: the spline of each unit vector."""
    at = np.linspace(0, nodes - 1, length)[None]
    columns = [ndimage.map_coordinates(e, at, mode="mirror") for e in np.eye(nodes)]
    return np.stack(columns, axis=1).astype(np.float32)


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
    height, width = example["image"].shape[:2]
    y, x = mirror(rows, height), mirror(columns, width)
    nearest = np.rint(y).astype(np.intp) * width + np.rint(x).astype(np.intp)
    return {
        key: bilinear(values, y, x) if key == "image" else values.ravel().take(nearest)
        for key, values in example.items()
    }


def bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Interpolates an image at points inside of it.

    Args:
      image: `[H, W, C]` of a floating type.
      y: coordinates `[h, w]` in `[0, H - 1]`.
      x: coordinates `[h, w]` in `[0, W - 1]`.

    Returns:
      `[h, w, C]` of the image's type.
    """
    height, width, channels = image.shape
    top = np.minimum(y.astype(np.intp), max(height - 2, 0))
    left = np.minimum(x.astype(np.intp), max(width - 2, 0))
    down, right = (y - top)[..., None], (x - left)[..., None]
    down, right = down.astype(image.dtype), right.astype(image.dtype)
    pixels = image.reshape(-1, channels)
    at = top * width + left
    beside, below = int(width > 1), width * int(height > 1)
    upper = pixels.take(at, axis=0)
    upper += (pixels.take(at + beside, axis=0) - upper) * right
    lower = pixels.take(at + below, axis=0)
    lower += (pixels.take(at + below + beside, axis=0) - lower) * right
    upper += (lower - upper) * down
    return upper


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
    height, width = image.shape[:2]
    top, bottom, down = _neighbours(y, height)
    left, right, along = _neighbours(x, width)
    first, last = left.min(), right.max() + 1
    strip = image[:, first:last]
    rows = strip[top].astype(np.float32)
    rows += (strip[bottom].astype(np.float32) - rows) * down[:, None, None]
    out = rows[:, left - first]
    out += (rows[:, right - first] - out) * along[:, None]
    return out


def _neighbours(
    at: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels on both sides of coordinates, and the weight of the second."""
    at = np.clip(at, 0, length - 1)
    before = at.astype(np.intp)
    return before, np.minimum(before + 1, length - 1), at - before.astype(np.float32)
