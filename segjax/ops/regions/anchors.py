"""Anchors: the boxes of fixed shape that a region proposal network starts from.

Ren, He, Girshick, Sun, NIPS 2015, arXiv 1506.01497, section 3.1.1; one size at each
level of a pyramid is Lin et al., CVPR 2017, arXiv 1612.03144, section 4.1. Rounding and
places are torchvision's: an anchor's centre is the first pixel of its cell, not the
middle of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from segjax.ops.base.arguments import pair
from segjax.types import Array

Sizes = float | Sequence[float]


def base_anchors(
    size: Sizes, ratios: Sequence[float], *, rounded: bool = True
) -> np.ndarray:
    """Anchors of one cell, around the origin.

    At ratio r, height over width, an anchor is `size sqrt(r)` high and `size / sqrt(r)`
    wide, so that all of one size have the same area.

    Args:
      size: side of the square anchor, pixels; several sizes share a cell, too.
      ratios: heights over widths.
      rounded: whether coordinates are rounded to whole pixels, half to even, as in
        torchvision; Detectron2 does not.

    Returns:
      `[A, 4]` float32; for each ratio all sizes.

    Raises:
      ValueError: if a size or a ratio is not positive, or there is none.

    Example:
      >>> base_anchors(32, (0.5, 1.0)).tolist()
      [[-11.0, -23.0, 11.0, 23.0], [-16.0, -16.0, 16.0, 16.0]]
    """
    sizes = tuple(size) if isinstance(size, Sequence) else (size,)
    if not sizes or not ratios or min(*sizes, *ratios) <= 0:
        raise ValueError(
            f"size is {size} and ratios {ratios}; allowed are positive numbers, at "
            "least one of each"
        )
    # In float32 throughout: at a half, the last bit decides which way it is rounded.
    root = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    side = np.asarray(sizes, np.float32)[None]
    high, wide = (root * side).ravel(), (1 / root * side).ravel()
    anchors = np.stack([-high, -wide, high, wide], 1) / 2
    return np.round(anchors) if rounded else anchors


def grid_anchors(
    grid: tuple[int, int], stride: tuple[int, int], base: np.ndarray | Array
) -> Array:
    """Anchors of every cell of one map, row by row.

    Args:
      grid: height and width of the map, cells.
      stride: pixels from one cell to the next, along y and x.
      base: anchors of one cell `[A, 4]`, as from `base_anchors`.

    Returns:
      `[h * w * A, 4]` float32, ordered by row, column, anchor.

    Raises:
      ValueError: if a number is below 1 or `base` is of another shape.

    Example:
      >>> grid_anchors((1, 2), (4, 4), base_anchors(2, (1.0,))).tolist()
      [[-1.0, -1.0, 1.0, 1.0], [-1.0, 3.0, 1.0, 5.0]]
    """
    height, width = pair("grid", grid, 1)
    down, right = pair("stride", stride, 1)
    if base.ndim != 2 or base.shape[1] != 4:
        raise ValueError(f"base is {base.shape}; allowed is [A, 4]")
    y = jnp.arange(height, dtype=jnp.float32)[:, None] * down
    x = jnp.arange(width, dtype=jnp.float32)[None] * right
    y, x = jnp.broadcast_arrays(y + 0 * x, x + 0 * y)
    shift = jnp.stack([y, x, y, x], -1).reshape(-1, 1, 4)
    anchors = shift + jnp.asarray(base, jnp.float32)[None]
    return anchors.reshape(-1, 4)


def pyramid_anchors(
    grids: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    sizes: Sequence[Sizes],
    ratios: Sequence[float],
    *,
    rounded: bool = True,
) -> tuple[Array, ...]:
    """Anchors of all levels of a pyramid.

    The stride of a level is the size of the padded image divided by that of its map,
    rounded down: for 800 pixels and the 13 cells of P6 it is 61, not 64.

    Args:
      grids: height and width of each map, cells.
      image_size: height and width of the padded image, pixels.
      sizes: of the anchors of each level, one or several, pixels.
      ratios: heights over widths, the same at all levels.
      rounded: as in `base_anchors`.

    Returns:
      One `[h * w * A, 4]` for each level.

    Raises:
      ValueError: if there are not as many sizes as maps, or a number is out of range.

    Example:
      >>> levels = pyramid_anchors([(4, 4), (2, 2)], (32, 32), (8, 16), (0.5, 1, 2))
      >>> [level.shape for level in levels]
      [(48, 4), (12, 4)]
    """
    if len(grids) != len(sizes):
        raise ValueError(
            f"sizes has {len(sizes)} entries for {len(grids)} maps; allowed is one each"
        )
    height, width = pair("image_size", image_size, 1)
    return tuple(
        grid_anchors(
            (h, w),
            (height // h, width // w),
            base_anchors(size, ratios, rounded=rounded),
        )
        for (h, w), size in zip(grids, sizes, strict=True)
    )
