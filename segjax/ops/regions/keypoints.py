"""Keypoints as cells of a grid over their box, and back.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, section 5: a keypoint is a
mask in which one pixel is set. Rounding is torchvision's, and Detectron's before it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.types import Array

CUBIC = -0.75
"""The slope of PyTorch's bicubic kernel."""
_BLOCK = 32
"""Pixels along each side of what is resized at once."""
_LAST = np.iinfo(np.int32).max


def encode_keypoints(
    keypoints: Array, boxes: Array, *, size: int = 56
) -> tuple[Array, Array]:
    """Finds the cell of each keypoint in a grid of `size` x `size` over its box.

    A point on the far edge of the box belongs to the last cell.

    Args:
      keypoints: `[N, P, 3]`, (y, x, visibility) in pixels of the image; 0 is not labelled.
      boxes: `[N, 4]`.
      size: cells along each side.

    Returns:
      The cells `[N, P]` int32, `row * size + column`, and whether the point is labelled
      and in its box, `[N, P]` bool; the cell is 0 where it is not.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> box = jnp.array([[20.0, 10.0, 27.3, 18.5]])
      >>> points = jnp.array([[[24.0, 12.0, 2.0], [25.0, 18.5, 2.0], [24.0, 9.0, 2.0]]])
      >>> cells, valid = encode_keypoints(points, box)
      >>> cells.tolist(), valid.tolist()
      ([[1693, 2183, 0]], [[True, True, False]])
    """
    count = keypoints.shape[0] if keypoints.ndim else 0
    if keypoints.ndim != 3 or keypoints.shape[2] != 3 or boxes.shape != (count, 4):
        raise ValueError(
            f"keypoints is {keypoints.shape} and boxes {boxes.shape}; allowed are "
            "[N, P, 3] and [N, 4]"
        )
    if size < 1:
        raise ValueError(f"size is {size}; allowed are numbers of at least 1")
    start, sides = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    some = sides > 0
    place = keypoints[..., :2]
    factor = size / jnp.where(some, sides, 1)
    cell = jnp.floor((place - start) * factor).astype(jnp.int32)
    cell = jnp.where(place == boxes[:, None, 2:], size - 1, cell)
    inside = ((cell >= 0) & (cell < size) & some).all(-1)
    valid = inside & (keypoints[..., 2] > 0)
    return jnp.where(valid, cell[..., 0] * size + cell[..., 1], 0), valid


def locate_keypoints(heatmaps: Array, boxes: Array) -> Array:
    """The keypoints of `decode_keypoints`, under `jit` and on every device.

    Maps are resized block by block, as many as the box has, so that shapes are static
    and the work is that of the boxes there are.

    Args:
      heatmaps: logits `[R, s, s, P]`.
      boxes: `[R, 4]` in pixels of the image; an empty slot may hold anything finite.

    Returns:
      `[R, P, 3]` float32: y and x in pixels of the image, and the resized logit there.
      Of equal logits the first counts, row by row.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> heatmap = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(1)
      >>> found = locate_keypoints(heatmap, jnp.array([[0.0, 0.0, 8.0, 8.0]]))
      >>> found[0, 0].round(4).tolist()
      [2.5, 4.5, 0.7724999785423279]
    """
    _check_maps(heatmaps, boxes)
    return lax.map(lambda pair: _locate(*pair), (heatmaps.astype(jnp.float32), boxes))


def _locate(heatmap: Array, box: Array) -> Array:
    """The places `[P, 3]` of the maps `[s, s, P]` of one box."""
    high, wide, number = heatmap.shape
    side = jnp.maximum(box[2:] - box[:2], 1).astype(jnp.float32)
    length = jnp.ceil(side).astype(jnp.int32)
    blocks = -(-length // _BLOCK)
    offsets = jnp.arange(_BLOCK, dtype=jnp.int32)

    def look(index: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        rows = index // blocks[1] * _BLOCK + offsets
        columns = index % blocks[1] * _BLOCK + offsets
        down = _bicubic_rows(high, length[0], rows)
        right = _bicubic_rows(wide, length[1], columns)
        values = jnp.einsum("ih,hwp,jw->ijp", down, heatmap, right, precision="highest")
        inside = (rows < length[0])[:, None] & (columns < length[1])[None]
        values = jnp.where(inside[..., None], values, -jnp.inf).reshape(-1, number)
        place = (rows[:, None] * length[1] + columns[None]).reshape(-1, 1)
        top = values.max(0)
        first = jnp.where(values == top[None], place, _LAST).min(0)
        better = (top > best[0]) | ((top == best[0]) & (first < best[1]))
        return jnp.where(better, top, best[0]), jnp.where(better, first, best[1])

    start = (jnp.full(number, -jnp.inf), jnp.full(number, _LAST))
    score, place = lax.fori_loop(0, blocks[0] * blocks[1], look, start)
    cell = jnp.stack([place // length[1], place % length[1]], -1).astype(jnp.float32)
    point = (cell + 0.5) * (side / length)[None] + box[None, :2]
    return jnp.concatenate([point, score[:, None]], -1)


def _bicubic_rows(count: int, length: Array, rows: Array) -> Array:
    """Weights that resize `count` pixels to `length`, of some rows, `[N, count]`."""
    scale = jnp.float32(count) / length.astype(jnp.float32)
    position = (rows.astype(jnp.float32) + 0.5) * scale - 0.5
    low = jnp.floor(position)
    fraction = position - low
    pixels = jnp.arange(count)[None]
    weights = jnp.zeros((rows.size, count), jnp.float32)
    for tap in (-1, 0, 1, 2):
        pixel = jnp.clip(low.astype(jnp.int32) + tap, 0, count - 1)[:, None]
        weight = _cubic(jnp.abs(fraction - tap), jnp)[:, None]
        weights += jnp.where(pixel == pixels, weight, 0)
    return weights


def _check_maps(heatmaps: Array | np.ndarray, boxes: Array | np.ndarray) -> None:
    if heatmaps.ndim != 4 or boxes.shape != (len(heatmaps), 4):
        raise ValueError(
            f"heatmaps is {heatmaps.shape} and boxes {boxes.shape}; allowed are "
            "[R, s, s, P] and [R, 4]"
        )


def decode_keypoints(
    heatmaps: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the highest point of each heat map, to a pixel of its box, on the host.

    The map is resized to the box, rounded up to whole pixels, by bicubic interpolation.

    Args:
      heatmaps: logits `[R, s, s, P]`.
      boxes: `[R, 4]` in pixels of the image.

    Returns:
      The points `[R, P, 2]`, (y, x) in pixels of the image, and the resized logit at
      each of them, `[R, P]`; both float32.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> heatmap = np.zeros((1, 4, 4, 1))
      >>> heatmap[0, 1, 2] = 1
      >>> points, scores = decode_keypoints(heatmap, np.array([[0.0, 0.0, 8.0, 8.0]]))
      >>> points[0, 0].tolist(), round(float(scores[0, 0]), 4)
      ([2.5, 4.5], 0.7725)
    """
    heatmaps, boxes = np.asarray(heatmaps, np.float32), np.asarray(boxes, np.float32)
    _check_maps(heatmaps, boxes)
    regions, high, wide, number = heatmaps.shape
    points = np.zeros((regions, number, 2), np.float32)
    scores = np.zeros((regions, number), np.float32)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    for r, (heatmap, box, side) in enumerate(zip(heatmaps, boxes, sides, strict=True)):
        rows, columns = (int(n) for n in np.ceil(side))
        down, right = _bicubic(high, rows), _bicubic(wide, columns)
        values = np.einsum("ih,hwp->piw", down, heatmap, optimize=True) @ right.T
        flat = values.reshape(number, -1)
        place = flat.argmax(1)
        cell = np.stack([place // columns, place % columns], 1).astype(np.float32)
        shrink = side / np.array([rows, columns], np.float32)
        points[r] = (cell + 0.5) * shrink[None] + box[None, :2]
        scores[r] = flat[np.arange(number), place]
    return points, scores


def _bicubic(count: int, length: int) -> np.ndarray:
    """Weights that resize `count` pixels to `length`, `[length, count]`."""
    scale = np.float32(count / length)
    position = (np.arange(length, dtype=np.float32) + 0.5) * scale - 0.5
    low = np.floor(position)
    fraction = (position - low).astype(np.float32)
    weights = np.zeros((length, count), np.float32)
    row = np.arange(length)
    for tap in (-1, 0, 1, 2):
        pixel = np.clip(low.astype(np.int64) + tap, 0, count - 1)
        np.add.at(weights, (row, pixel), _cubic(np.abs(fraction - tap)))
    return weights


def _cubic(distance: Any, numpy: ModuleType = np) -> Any:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    far = numpy.where(distance < 2, far, 0)
    return numpy.where(distance <= 1, near, far)
