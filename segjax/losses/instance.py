"""Losses of Mask R-CNN and its relatives, on targets in slots, some of them empty.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, section 3: the sum of the
losses of proposals, of classes and boxes, of masks, and of keypoints. Every mean is over
what was sampled in the whole batch, as in torchvision. Where nothing was, the loss and
its gradient are 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

BETA = 1 / 9
"""Where torchvision's smooth L1 turns from a square to a line."""


def smooth_l1(error: Array, *, beta: float = BETA) -> Array:
    """`error^2 / (2 beta)` up to `beta`, `|error| - beta / 2` beyond.

    Girshick, ICCV 2015, arXiv 1504.08083, equation 3, has a beta of 1.

    Args:
      error: any shape.
      beta: at least 0; 0 is the absolute value.

    Returns:
      The loss of each element.

    Raises:
      ValueError: if beta is negative.

    Example:
      >>> smooth_l1(jnp.array([-0.5, 2.0]), beta=1.0).tolist()
      [0.125, 1.5]
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}; allowed are finite numbers of at least 0")
    size = jnp.abs(error)
    if not beta:
        return size
    return jnp.where(size < beta, 0.5 / beta * error**2, size - 0.5 * beta)


def rpn_loss(
    logits: Array,
    deltas: Array,
    targets: Array,
    positive: Array,
    weights: Array,
    *,
    beta: float = BETA,
) -> tuple[Array, Array]:
    """Losses of region proposals: is there an object, and where.

    Binary cross-entropy of the anchors that were sampled, and smooth L1 of the deltas of
    the positive ones among them, both divided by the number sampled.

    Args:
      logits: of an object at each anchor, `[..., N]`.
      deltas: `[..., N, 4]`.
      targets: deltas of the object that each anchor answers for, `[..., N, 4]`.
      positive: `[..., N]` bool.
      weights: `[..., N]`, 1 for anchors that were sampled, else 0.
      beta: of `smooth_l1`.

    Returns:
      The two losses, float32 scalars.
    """
    logits, deltas = logits.astype(jnp.float32), deltas.astype(jnp.float32)
    number = jnp.maximum(weights.sum(), 1)
    entropy = _binary_cross_entropy(logits, positive.astype(jnp.float32))
    counts = weights * positive
    distance = smooth_l1(_counted(deltas - targets, counts), beta=beta).sum(-1)
    return _total(entropy, weights) / number, _total(distance, counts) / number


def box_loss(
    logits: Array,
    deltas: Array,
    classes: Array,
    targets: Array,
    weights: Array,
    *,
    beta: float = BETA,
) -> tuple[Array, Array]:
    """Losses of regions: of which class, and where exactly.

    Cross-entropy of the regions that were sampled, and smooth L1 of the deltas that
    belong to the class of the positive ones, both divided by the number sampled.

    Args:
      logits: of the classes of each region, `[..., S, K]`, background first.
      deltas: `[..., S, K, 4]`, or `[..., S, 1, 4]` if they are the same for all classes.
      classes: `[..., S]` int, 0 for background.
      targets: deltas of the object of each region, `[..., S, 4]`.
      weights: `[..., S]`, 1 for regions that were sampled, else 0.
      beta: of `smooth_l1`.

    Returns:
      The two losses, float32 scalars.

    Raises:
      ValueError: if `deltas` has neither 1 nor K classes.
    """
    _check_classes("deltas", deltas.shape[-2], logits.shape[-1])
    logits, deltas = logits.astype(jnp.float32), deltas.astype(jnp.float32)
    number = jnp.maximum(weights.sum(), 1)
    entropy = _cross_entropy(logits, classes)
    own = _of_class(jnp.moveaxis(deltas, -2, -1), classes[..., None])
    counts = weights * (classes > 0)
    distance = smooth_l1(_counted(own - targets, counts), beta=beta).sum(-1)
    return _total(entropy, weights) / number, _total(distance, counts) / number


def mask_loss(logits: Array, targets: Array, weights: Array) -> Array:
    """Binary cross-entropy of the mask of each region's own class.

    A sigmoid for each class instead of a softmax over them: classes do not compete for
    pixels (section 3 of the paper; without it, 5.5 points of AP less).

    Args:
      logits: of the class that the region has, `[..., M, m, m]`.
      targets: fraction of each cell that the object covers, `[..., M, m, m]`, in [0, 1].
      weights: `[..., M]`, 1 for regions that are positive, else 0.

    Returns:
      The mean over positive regions and their pixels, a float32 scalar.
    """
    targets = _counted(targets.astype(jnp.float32), weights[..., None])
    entropy = _binary_cross_entropy(logits.astype(jnp.float32), targets)
    entropy = entropy.mean((-2, -1))
    return _total(entropy, weights) / jnp.maximum(weights.sum(), 1)


def keypoint_loss(logits: Array, cells: Array, valid: Array) -> Array:
    """Cross-entropy over the cells of each keypoint's map: a mask of one pixel.

    Args:
      logits: `[..., M, s, s, P]`.
      cells: `[..., M, P]` int, `row * s + column`, as from `ops.regions.keypoints`.
      valid: `[..., M, P]`, 1 for keypoints that are visible and in their region, else 0.

    Returns:
      The mean over valid keypoints, a float32 scalar.
    """
    *lead, high, wide, points = logits.shape
    flat = logits.astype(jnp.float32).reshape(*lead, high * wide, points)
    entropy = _cross_entropy(jnp.moveaxis(flat, -1, -2), cells)
    valid = valid.astype(jnp.float32)
    return _total(entropy, valid) / jnp.maximum(valid.sum(), 1)


def mask_rcnn_loss(
    outputs: Mapping[str, Any],
    batch: Mapping[str, Array],
    *,
    rpn_beta: float = BETA,
    box_beta: float = BETA,
    rpn_weight: float = 1.0,
    box_weight: float = 1.0,
    mask_weight: float = 1.0,
    keypoint_weight: float = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """The loss of Mask R-CNN, `L_rpn + L_class + L_box + L_mask + L_keypoint`.

    Args:
      outputs: of the model in training. For proposals `rpn_logits` `[B, N]`,
        `rpn_deltas`, `rpn_targets` `[B, N, 4]`, `rpn_positive`, `rpn_weights` `[B, N]`;
        for regions `class_logits` `[B, S, K]`, `box_deltas` `[B, S, K or 1, 4]`,
        `class_targets` `[B, S]`, `box_targets` `[B, S, 4]`, `box_weights` `[B, S]`; for
        the positive slots, if there are such heads, `mask_logits` of their own class
        and `mask_targets` `[B, M, m, m]`, `mask_weights` `[B, M]`, and
        `keypoint_logits` `[B, M, s, s, P]`, `keypoint_cells`, `keypoint_valid`
        `[B, M, P]`.
      batch: not used: the model has sampled and attached the targets.
      rpn_beta: of `smooth_l1`, for proposals.
      box_beta: of `smooth_l1`, for regions.
      rpn_weight: factor of both losses of proposals.
      box_weight: factor of the losses of classes and boxes.
      mask_weight: factor of the loss of masks.
      keypoint_weight: factor of the loss of keypoints.

    Returns:
      The loss, a float32 scalar, and its parts by name, before their factors.

    Raises:
      ValueError: if a factor is negative or `box_deltas` has neither 1 nor K classes.
    """
    factors = (rpn_weight, box_weight, mask_weight, keypoint_weight)
    if not all(0 <= factor < math.inf for factor in factors):
        raise ValueError(
            "rpn_weight, box_weight, mask_weight and keypoint_weight must be finite "
            f"numbers of at least 0, got {factors}"
        )
    of = lambda *names: [outputs[name] for name in names]
    objectness, rpn_box = rpn_loss(
        *of("rpn_logits", "rpn_deltas", "rpn_targets", "rpn_positive", "rpn_weights"),
        beta=rpn_beta,
    )
    classes, box = box_loss(
        *of(
            "class_logits", "box_deltas", "class_targets", "box_targets", "box_weights"
        ),
        beta=box_beta,
    )
    parts = {
        "rpn_class_loss": objectness,
        "rpn_box_loss": rpn_box,
        "class_loss": classes,
        "box_loss": box,
    }
    total = rpn_weight * (objectness + rpn_box) + box_weight * (classes + box)
    if "mask_logits" in outputs:
        parts["mask_loss"] = mask_loss(
            *of("mask_logits", "mask_targets", "mask_weights")
        )
        total += mask_weight * parts["mask_loss"]
    if "keypoint_logits" in outputs:
        parts["keypoint_loss"] = keypoint_loss(
            *of("keypoint_logits", "keypoint_cells", "keypoint_valid")
        )
        total += keypoint_weight * parts["keypoint_loss"]
    return total, parts


def _check_classes(name: str, found: int, number: int) -> None:
    if found not in {1, number}:
        raise ValueError(
            f"{name} are of {found} classes; allowed are 1, or {number} as of the logits"
        )


def _counted(x: Array, weights: Array) -> Array:
    """Zeros in slots of no weight: a NaN there would reach the gradient as 0 x NaN."""
    return jnp.where((weights > 0)[..., None], x, 0)


def _total(loss: Array, weights: Array) -> Array:
    """Weighted sum that nothing of weight 0 can spoil, whatever stands there."""
    counts = weights > 0
    return (jnp.where(counts, loss, 0) * weights).sum()


def _binary_cross_entropy(logits: Array, targets: Array) -> Array:
    return (
        jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    )


def _cross_entropy(logits: Array, classes: Array) -> Array:
    """Softmax cross-entropy `[...]` of logits `[..., K]`."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, classes[..., None], -1)[..., 0]


def _of_class(x: Array, classes: Array) -> Array:
    """The channel of `[..., K]` that each class names; of one channel, that one."""
    if x.shape[-1] == 1:
        return x[..., 0]
    # A sum instead of a gather: its gradient is not a scatter.
    own = lax.broadcasted_iota(classes.dtype, x.shape, x.ndim - 1) == classes[..., None]
    return jnp.where(own, x, 0).sum(-1)
