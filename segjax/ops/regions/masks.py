"""Masks of objects, cropped to regions for training and pasted back for results."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import Pair, pair
from segjax.ops.regions.boxes import check_boxes
from segjax.types import Array


def crop_and_resize_masks(
    masks: Array,
    boxes: Array,
    *,
    size: Pair,
    aligned: bool = True,
    zero_padded: bool = False,
) -> Array:
    """Crops one box of each mask and resizes it: what a mask head is to answer.

    This is RoIAlign with as many samples as a bin has pixels, computed as two matrix
    products. It is exact for boxes of any size; the gradient goes to the masks.

    Args:
      masks: `[N, H, W]`, floating point or integer.
      boxes: `[N, 4]` in pixels of the masks.
      size: rows and columns of the result; one number for both.
      aligned: as in `roi.roi_align`. Torchvision's targets are not.
      zero_padded: whether zeros begin right behind the border. RoIAlign takes a sample
        up to one pixel outside for the border itself, which makes an object larger that
        ends there, as all do in masks that were cropped to their box.

    Returns:
      `[N, *size]` float32: means of the mask over each bin, 0 outside of it. Not rounded.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> mask = jnp.zeros((1, 4, 4)).at[0, :, 2:].set(1)
      >>> boxes = jnp.array([[0.0, 1.0, 2.0, 3.0]])
      >>> crop_and_resize_masks(mask, boxes, size=2).tolist()
      [[[0.0, 1.0], [0.0, 1.0]]]
    """
    if masks.ndim != 3 or boxes.shape != (masks.shape[0], 4):
        raise ValueError(
            f"masks is {masks.shape} and boxes {boxes.shape}; allowed are [N, H, W] and "
            "[N, 4]"
        )
    return _crop(masks, boxes, pair("size", size, 1), aligned, zero_padded)


@partial(jax.jit, static_argnames=("size", "aligned", "zero_padded"))
def _crop(
    masks: Array,
    boxes: Array,
    size: tuple[int, int],
    aligned: bool,
    zero_padded: bool,
) -> Array:
    boxes = lax.stop_gradient(boxes).astype(jnp.float32)
    rows, columns = (
        _bin_weights(
            boxes[:, axis],
            boxes[:, 2 + axis],
            size[axis],
            masks.shape[1 + axis],
            aligned,
            zero_padded,
        )
        for axis in range(2)
    )
    masks = masks.astype(jnp.float32)
    return jnp.einsum("nih,nhw,njw->nij", rows, masks, columns, precision="highest")


def _bin_weights(
    start: Array, stop: Array, bins: int, pixels: int, aligned: bool, zero_padded: bool
) -> Array:
    """Weight of each pixel of an axis in each bin, `[N, bins, pixels]`."""
    extent = stop - start
    if aligned:
        start = start - 0.5
    else:
        extent = jnp.maximum(extent, 1)
    counts = jnp.maximum(jnp.ceil(extent / bins), 0).astype(jnp.int32)
    each = (extent / bins)[:, None]
    i = np.arange(bins, dtype=np.float32)[None]
    pixel = np.arange(pixels, dtype=np.float32)[None, None]
    divisor = jnp.maximum(counts, 1)[:, None]

    def step(k: Array, total: Array) -> Array:
        position = start[:, None] + (i + (k + 0.5) / divisor) * each
        inside = (position >= -1) & (position <= pixels) & (k < counts[:, None])
        if not zero_padded:
            position = jnp.clip(position, 0, pixels - 1)
        hat = jnp.maximum(1 - jnp.abs(pixel - position[..., None]), 0)
        return total + jnp.where(inside[..., None], hat, 0)

    nothing = jnp.zeros((start.shape[0], bins, pixels), jnp.float32)
    most = counts.max(initial=0)
    return lax.fori_loop(0, most, step, nothing) / divisor[..., None]


def boxes_in_crops(boxes: Array, crops: Array, *, size: Pair) -> Array:
    """Boxes of the image in pixels of masks that were cropped and resized themselves.

    Args:
      boxes: `[..., 4]`, pixels of the image.
      crops: `[..., 4]`, the box of the image that each mask shows.
      size: rows and columns of the masks; one number for both.

    Returns:
      `[..., 4]`, pixels of the masks; zeros where the crop has no area.

    Raises:
      ValueError: if the shapes differ or are others.

    Example:
      >>> crop, box = jnp.array([10.0, 10, 20, 30]), jnp.array([10.0, 15, 20, 25])
      >>> boxes_in_crops(box, crop, size=8).tolist()
      [0.0, 2.0, 8.0, 6.0]
    """
    check_boxes(boxes)
    if crops.shape != boxes.shape:
        raise ValueError(
            f"boxes is {boxes.shape} and crops {crops.shape}; allowed is one shape"
        )
    sides = crops[..., 2:] - crops[..., :2]
    some = (sides > 0).all(-1, keepdims=True)
    pixels = jnp.asarray(pair("size", size, 1), jnp.float32)
    pixels = pixels.reshape((1,) * (boxes.ndim - 1) + (2,))
    factor = pixels / jnp.where(some, sides, 1)
    start = jnp.concatenate([crops[..., :2]] * 2, -1)
    return jnp.where(some, (boxes - start) * jnp.concatenate([factor] * 2, -1), 0)


def boxes_from_masks(masks: Array) -> Array:
    """The smallest box around each mask.

    Args:
      masks: `[N, H, W]`; what is not 0 belongs to the object.

    Returns:
      `[N, 4]` float32, end exclusive; zeros for an empty mask.

    Raises:
      ValueError: if `masks` is of another shape.

    Example:
      >>> mask = jnp.zeros((1, 5, 5)).at[0, 1:3, 2].set(1)
      >>> boxes_from_masks(mask).tolist()
      [[1.0, 2.0, 3.0, 3.0]]
    """
    if masks.ndim != 3:
        raise ValueError(f"masks is {masks.shape}; allowed is [N, H, W]")
    ends = []
    for other in (2, 1):
        there = (masks != 0).any(other)
        length = there.shape[1]
        first = jnp.argmax(there, 1)
        last = length - jnp.argmax(there[:, ::-1], 1)
        ends.append(
            jnp.where(there.any(1, keepdims=True), jnp.stack([first, last], 1), 0)
        )
    rows, columns = ends
    return jnp.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], 1).astype(
        jnp.float32
    )


def paste_masks(
    masks: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    *,
    threshold: float | None = 0.5,
) -> np.ndarray:
    """Writes masks of regions into images of their own, on the host.

    As in torchvision: a margin of one pixel of zeros, the box enlarged with it, its
    corners truncated to whole pixels, both of which belong to it, and bilinear
    resizing between them.

    Args:
      masks: probabilities `[R, m, m]`.
      boxes: `[R, 4]` in pixels of the image.
      size: height and width of the image.
      threshold: least probability of a pixel of the object, or None.

    Returns:
      `[R, *size]` bool, or probabilities float32 without a threshold.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> masks, boxes = np.ones((1, 2, 2)), np.array([[2.0, 2.0, 6.0, 6.0]])
      >>> paste_masks(masks, boxes, (8, 8))[0].sum(0).tolist()
      [0, 0, 3, 5, 5, 5, 3, 0]
    """
    masks, boxes = np.asarray(masks, np.float32), np.asarray(boxes, np.float32)
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ValueError(
            f"masks is {masks.shape} and boxes {boxes.shape}; allowed are [R, m, m] and "
            "[R, 4]"
        )
    height, width = pair("size", size, 1)
    dtype = np.float32 if threshold is None else bool
    result = np.zeros((len(masks), height, width), dtype)
    if not len(masks):
        return result
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    ends = _enlarged(boxes, masks.shape[1:])
    for canvas, mask, (y0, x0, y1, x1) in zip(result, padded, ends, strict=True):
        rows = slice(max(y0, 0), min(y1 + 1, height))
        columns = slice(max(x0, 0), min(x1 + 1, width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        down = _interpolation(y0, y1, rows, mask.shape[0])
        right = _interpolation(x0, x1, columns, mask.shape[1])
        values = down @ mask @ right.T
        canvas[rows, columns] = values if threshold is None else values >= threshold
    return result


def _enlarged(boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Boxes with the margin of one mask pixel, truncated to whole pixels."""
    factor = np.tile((np.asarray(size, np.float32) + 2) / np.asarray(size), 2)
    center = np.tile((boxes[:, :2] + boxes[:, 2:]) * 0.5, 2)
    half = np.tile((boxes[:, 2:] - boxes[:, :2]) * 0.5, 2)
    sign = np.array([-1, -1, 1, 1], np.float32)
    return (center + sign * (half * factor.astype(np.float32))).astype(np.int64)


def _interpolation(first: int, last: int, pixels: slice, count: int) -> np.ndarray:
    """Bilinear weights of some of the pixels from `first` to `last`, `[n, count]`."""
    number = max(last - first + 1, 1)
    index = np.arange(pixels.start, pixels.stop) - first
    scale = np.float32(count / number)
    position = np.maximum((index.astype(np.float32) + 0.5) * scale - 0.5, 0)
    low = np.minimum(position.astype(np.int64), count - 1)
    fraction = position - low.astype(np.float32)
    weights = np.zeros((len(index), count), np.float32)
    row = np.arange(len(index))
    weights[row, low] = 1 - fraction
    weights[row, np.minimum(low + 1, count - 1)] += fraction
    return weights
