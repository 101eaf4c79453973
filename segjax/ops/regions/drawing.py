"""Objects drawn into one image, as their numbers: on the device, for programs."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.types import Array


def draw_masks(
    masks: Array,
    boxes: Array,
    valid: Array,
    size: tuple[int, int],
    *,
    threshold: float,
) -> Array:
    """Draws masks of regions into one image; where they overlap, the first one is seen.

    The pixels of an object are those of `segjax.ops.regions.masks.paste_masks`.

    Args:
      masks: probabilities `[R, m, m]`.
      boxes: `[R, 4]` in pixels of the image.
      valid: whether there is an object, `[R]` bool.
      size: height and width of the image.
      threshold: least probability of a pixel of the object.

    Returns:
      int32 `[*size]`: 0 where there is no object, otherwise its place from 1.

    Example:
      >>> masks, boxes = jnp.ones((1, 2, 2)), jnp.array([[2.0, 2.0, 6.0, 6.0]])
      >>> drawn = draw_masks(masks, boxes, jnp.array([True]), (8, 8), threshold=0.5)
      >>> drawn.sum(0).tolist()
      [0, 0, 3, 5, 5, 5, 3, 0]
    """
    count = masks.shape[1] + 2
    padded = jnp.pad(masks.astype(jnp.float32), ((0, 0), (1, 1), (1, 1)))
    center, half = (
        (boxes[:, :2] + boxes[:, 2:]) * 0.5,
        (boxes[:, 2:] - boxes[:, :2]) * 0.5,
    )
    half = half * np.float32(count / masks.shape[1])
    first, last = (jnp.asarray(x, jnp.int32) for x in (center - half, center + half))

    def pixels(i: Array) -> Array:
        down, right = (
            _interpolation(first[i, axis], last[i, axis], size[axis], count)
            for axis in (0, 1)
        )
        values = jnp.einsum(
            "hm,mn,wn->hw", down[0], padded[i], right[0], precision="highest"
        )
        return (values >= threshold) & down[1][:, None] & right[1][None]

    return _draw(pixels, valid, size)


def draw_boxes(boxes: Array, valid: Array, size: tuple[int, int]) -> Array:
    """Draws boxes into one image, rounded to whole pixels; see `draw_masks`.

    Args:
      boxes: `[R, 4]` in pixels of the image.
      valid: whether there is an object, `[R]` bool.
      size: height and width of the image.

    Returns:
      int32 `[*size]`: 0 where there is no object, otherwise its place from 1.

    Example:
      >>> boxes = jnp.array([[0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]])
      >>> draw_boxes(boxes, jnp.array([True, True]), (2, 3)).tolist()
      [[1, 1, 2], [0, 2, 2]]
    """
    ends = jnp.rint(boxes).astype(jnp.int32)

    def pixels(i: Array) -> Array:
        rows, columns = (
            (jnp.arange(size[axis]) >= ends[i, axis])
            & (jnp.arange(size[axis]) < ends[i, axis + 2])
            for axis in (0, 1)
        )
        return rows[:, None] & columns[None]

    return _draw(pixels, valid, size)


def _draw(
    pixels: Callable[[Array], Array], valid: Array, size: tuple[int, int]
) -> Array:
    """Draws from the last object to the first."""
    valid, count = jnp.asarray(valid), len(valid)

    def add(turn: Array, label: Array) -> Array:
        i = count - 1 - turn
        return jnp.where(valid[i] & pixels(i), i + 1, label)

    return lax.fori_loop(0, count, add, jnp.zeros(size, jnp.int32))


def _interpolation(
    first: Array, last: Array, side: int, count: int
) -> tuple[Array, Array]:
    """Bilinear weights of the pixels of a side, `[side, count]`, and which lie in the region."""
    number = jnp.maximum(last - first + 1, 1)
    index = jnp.arange(side) - first
    scale = count / number.astype(jnp.float32)
    position = jnp.maximum((index.astype(jnp.float32) + 0.5) * scale - 0.5, 0)
    low = jnp.minimum(position.astype(jnp.int32), count - 1)
    share = (position - low.astype(jnp.float32))[:, None]
    cells = jnp.arange(count)[None]
    weights = jnp.where(low[:, None] == cells, 1 - share, 0)
    high = jnp.minimum(low + 1, count - 1)
    weights += jnp.where(high[:, None] == cells, share, 0)
    return weights, (index >= 0) & (index <= last - first)
