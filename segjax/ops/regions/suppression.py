"""Non-maximum suppression with static shapes: what stays is a mask, not a list.

Greedy, as everywhere: the box of the highest score stays, and whatever overlaps it by
more than a threshold goes; the next of those that are left stays, and so on. Boxes are
sorted once; then one row of overlaps at a time is enough, so memory grows with N, not
with its square. A CPU does that fastest. An accelerator would wait for N small steps;
there a block of rows is taken at a time. Both keep the same boxes.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.forms import is_fast_on_cpu
from segjax.ops.regions.boxes import area, check_boxes
from segjax.types import Array

BLOCK = 512
"""Rows of overlaps that are in memory at a time, on an accelerator."""


def nms(
    boxes: Array, scores: Array, *, iou_threshold: float, valid: Array | None = None
) -> Array:
    """Keeps the best of boxes that overlap.

    A box goes if its IoU with a kept box of a higher score is above the threshold
    (strictly). Of equal scores the first comes first. There is no gradient.

    Args:
      boxes: `[N, 4]`.
      scores: `[N]`, none NaN.
      iou_threshold: in [0, 1].
      valid: `[N]` bool; what is not valid is not kept and suppresses nothing.

    Returns:
      `[N]` bool: whether each box is kept.

    Raises:
      ValueError: if a shape is another one, or the threshold is out of its range.

    Example:
      >>> boxes = jnp.array([[0.0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30]])
      >>> nms(boxes, jnp.array([0.8, 0.9, 0.1]), iou_threshold=0.5).tolist()
      [False, True, True]
    """
    return _suppress(boxes, scores, None, iou_threshold, valid)


def class_nms(
    boxes: Array,
    scores: Array,
    classes: Array,
    *,
    iou_threshold: float,
    valid: Array | None = None,
) -> Array:
    """Keeps the best of boxes that overlap and are of the same class.

    Args:
      boxes: `[N, 4]`.
      scores: `[N]`, none NaN.
      classes: `[N]` int, of the class (or of the level of a pyramid).
      iou_threshold: in [0, 1].
      valid: `[N]` bool; what is not valid is not kept and suppresses nothing.

    Returns:
      `[N]` bool: whether each box is kept.

    Raises:
      ValueError: if a shape is another one, or the threshold is out of its range.

    Example:
      >>> boxes = jnp.array([[0.0, 0, 10, 10], [0, 1, 10, 11], [0, 0, 10, 10]])
      >>> scores, classes = jnp.array([0.8, 0.9, 0.1]), jnp.array([1, 1, 2])
      >>> class_nms(boxes, scores, classes, iou_threshold=0.5).tolist()
      [False, True, True]
    """
    return _suppress(boxes, scores, classes, iou_threshold, valid)


def _suppress(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: float,
    valid: Array | None,
) -> Array:
    check_boxes(boxes)
    if boxes.ndim != 2:
        raise ValueError(f"boxes is {boxes.shape}; allowed is [N, 4]")
    count = boxes.shape[0]
    given = {"scores": scores, "classes": classes, "valid": valid}
    for name, array in given.items():
        if array is not None and array.shape != (count,):
            raise ValueError(f"{name} is {array.shape}; allowed is [N], {count} here")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold is {iou_threshold}; allowed is [0, 1]")
    if valid is None:
        valid = jnp.ones(count, bool)
    if classes is None:
        classes = jnp.zeros(count, jnp.int32)
    return _kept(boxes, scores, classes, valid, threshold=_below(iou_threshold))


@partial(jax.jit, static_argnames="threshold")
def _kept(
    boxes: Array, scores: Array, classes: Array, valid: Array, *, threshold: float
) -> Array:
    order = jnp.argsort(jnp.where(valid, -scores, jnp.inf), stable=True)
    boxes = lax.stop_gradient(boxes[order])
    keep = _keep_by_rows if is_fast_on_cpu() else _keep_by_blocks
    kept = keep(boxes, classes[order], valid[order], threshold=threshold)
    return jnp.zeros(valid.shape, bool).at[order].set(kept, unique_indices=True)


def _below(threshold: float) -> float:
    """Largest float32 not above a threshold: `iou >` both says the same."""
    nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-1))
    return float(nearest)


class _Planes(NamedTuple):
    """Boxes, each number in an array of its own, which is what vectors are made for."""

    y0: Array
    x0: Array
    y1: Array
    x1: Array
    area: Array
    label: Array


def _planes(boxes: Array, classes: Array) -> _Planes:
    y0, x0, y1, x1 = jnp.moveaxis(boxes, -1, 0)
    return _Planes(y0, x0, y1, x1, area(boxes), classes)


def _overlaps(a: _Planes, b: _Planes, threshold: float) -> Array:
    """Whether boxes of one class overlap too much."""
    height = jnp.minimum(a.y1, b.y1) - jnp.maximum(a.y0, b.y0)
    width = jnp.minimum(a.x1, b.x1) - jnp.maximum(a.x0, b.x0)
    shared = jnp.maximum(height, 0) * jnp.maximum(width, 0)
    union = a.area + b.area - shared
    # A quotient, not a product: rounding is then that of everybody else's IoU.
    iou = shared / jnp.where(union > 0, union, 1)
    return (iou > threshold) & (a.label == b.label)


def _keep_by_rows(
    boxes: Array, classes: Array, valid: Array, *, threshold: float
) -> Array:
    """Which of the boxes, sorted, stay; one row of overlaps at a time."""
    planes, place = _planes(boxes, classes), jnp.arange(boxes.shape[0])

    def step(i: Array, kept: Array) -> Array:
        one = jax.tree.map(lambda x: x[i][None], planes)
        overlaps = _overlaps(planes, one, threshold)
        return kept & ~(overlaps & (place > i) & kept[i])

    return lax.fori_loop(0, boxes.shape[0], step, valid)


def _keep_by_blocks(
    boxes: Array,
    classes: Array,
    valid: Array,
    *,
    threshold: float,
    block: int = BLOCK,
) -> Array:
    """Which of the boxes, sorted, stay; a block of rows of overlaps at a time.

    What stays in a block is the one fixed point of "stays unless something earlier that
    stays overlaps it". It is found in as many rounds as suppression has links.
    """
    count = boxes.shape[0]
    block = min(block, count)
    blocks = -(-count // max(block, 1))
    rest = blocks * block - count
    planes = jax.tree.map(lambda x: jnp.pad(x, (0, rest)), _planes(boxes, classes))
    kept = jnp.pad(valid, (0, rest))
    place = jnp.arange(blocks * block)
    earlier = place[:block, None] < place[None, :block]

    def step(b: Array, kept: Array) -> Array:
        begin = b * block
        rows = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, begin, block)[:, None], planes
        )
        columns = jax.tree.map(lambda x: x[None], planes)
        overlaps = _overlaps(columns, rows, threshold)
        own = lax.dynamic_slice_in_dim(overlaps, begin, block, 1) & earlier
        alive = lax.dynamic_slice_in_dim(kept, begin, block)

        def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
            stays, _ = state
            return alive & ~(own & stays[:, None]).any(0), stays

        differs = lambda state: (state[0] != state[1]).any()
        stays, _ = lax.while_loop(differs, again, again((alive, alive)))
        later = place >= begin + block
        kept = kept & ~(later & (overlaps & stays[:, None]).any(0))
        return lax.dynamic_update_slice_in_dim(kept, stays, begin, 0)

    return lax.fori_loop(0, blocks, step, kept)[:count]
