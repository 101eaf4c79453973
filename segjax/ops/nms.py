"""Non-maximum suppression with static shapes: what stays is a mask, not a list.

Greedy, as everywhere: the box of the highest score stays, and whatever overlaps it by
more than a threshold goes; the next of those that are left stays, and so on. Boxes are
sorted once; then one row of overlaps at a time is enough, so memory grows with N, not
with its square.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.boxes import area, check_boxes
from segjax.types import Array


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
    order = jnp.argsort(jnp.where(valid, -scores, jnp.inf), stable=True)
    boxes = lax.stop_gradient(boxes[order])
    labels = None if classes is None else classes[order]
    kept = _keep_by_rows(boxes, labels, valid[order], _below(iou_threshold))
    return jnp.zeros(count, bool).at[order].set(kept, unique_indices=True)


def _below(threshold: float) -> np.float32:
    """Largest float32 not above a threshold: `iou >` both says the same."""
    nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-1))
    return nearest


def _keep_by_rows(
    boxes: Array, classes: Array | None, valid: Array, threshold: np.float32
) -> Array:
    """Which of the boxes, sorted, stay; one row of overlaps at a time."""
    y0, x0, y1, x1 = boxes.T
    areas = area(boxes)
    later = jnp.arange(boxes.shape[0])

    def step(i: Array, kept: Array) -> Array:
        height = jnp.minimum(y1, y1[i]) - jnp.maximum(y0, y0[i])
        width = jnp.minimum(x1, x1[i]) - jnp.maximum(x0, x0[i])
        shared = jnp.maximum(height, 0) * jnp.maximum(width, 0)
        union = areas + areas[i] - shared
        # A quotient, not a product: rounding is then that of everybody else's IoU.
        overlaps = (shared / jnp.where(union > 0, union, 1) > threshold) & (later > i)
        if classes is not None:
            overlaps &= classes == classes[i]
        return kept & ~(overlaps & kept[i])

    return lax.fori_loop(0, boxes.shape[0], step, valid)
