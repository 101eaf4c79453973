"""From the scores of regions to detections, in a fixed number of slots."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.regions.boxes import Weights, clip, decode, is_large
from segjax.ops.regions.suppression import class_nms
from segjax.types import Array

SMALLEST_DETECTION = 1e-2
"""The least side of a detection, in pixels."""


class Detections(NamedTuple):
    """Objects that were found, best first; D slots, of which the last may be empty.

    Attributes:
      boxes: `[B, D, 4]`, pixels; zeros in an empty slot.
      scores: `[B, D]`, probabilities of the class; 0 in an empty slot.
      classes: `[B, D]` int32, from 1; 0 in an empty slot.
      valid: `[B, D]` bool.
    """

    boxes: Array
    scores: Array
    classes: Array
    valid: Array


def detect(
    logits: Array,
    deltas: Array,
    proposals: Array,
    valid: Array,
    sizes: Array,
    *,
    weights: Weights,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    count: int,
) -> Detections:
    """Makes detections of every region and class that scores enough.

    Of those of one class that overlap, the best stays.

    Args:
      logits: `[B, R, K]`.
      deltas: `[B, R, K, 4]`.
      proposals: `[B, R, 4]`.
      valid: `[B, R]` bool, of the proposals.
      sizes: height and width of each image without its padding, `[B, 2]`.
      weights: of the deltas.
      score_threshold: least probability (exclusive).
      iou_threshold: overlap above which the worse is dropped.
      candidates: pairs of region and class that are looked at, the best by score.
      count: slots, D.

    Returns:
      The detections.
    """
    one = lambda logits, deltas, boxes, valid, size: _detect_one(
        logits,
        deltas,
        boxes,
        valid,
        size,
        weights=weights,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        candidates=candidates,
        count=count,
    )
    return jax.vmap(one)(logits, deltas, proposals, valid, sizes)


def _detect_one(
    logits: Array,
    deltas: Array,
    proposals: Array,
    valid: Array,
    size: Array,
    *,
    weights: Weights,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    count: int,
) -> Detections:
    """The detections of one image."""
    foreground = logits.shape[1] - 1
    scores = jax.nn.softmax(logits, -1)[:, 1:]
    enough = (scores > score_threshold) & valid[:, None]
    ranked = jnp.where(enough, scores, -1.0).reshape(-1)
    values, index = lax.top_k(ranked, min(candidates, ranked.size))
    region, classes = index // foreground, index % foreground + 1
    boxes = decode(deltas[region, classes], proposals[region], weights=weights)
    boxes = clip(boxes, size)
    real = (values > 0) & is_large(boxes, SMALLEST_DETECTION)
    kept = class_nms(boxes, values, classes, iou_threshold=iou_threshold, valid=real)
    values, index = lax.top_k(jnp.where(kept, values, -1.0), min(count, values.size))
    found = values > 0
    return jax.tree.map(
        lambda x: _slots(x, count),
        Detections(
            boxes=jnp.where(found[:, None], boxes[index], 0),
            scores=jnp.where(found, values, 0),
            classes=jnp.where(found, classes[index], 0).astype(jnp.int32),
            valid=found,
        ),
    )


def _slots(x: Array, count: int) -> Array:
    """Adds empty slots where there were fewer candidates than slots."""
    return jnp.pad(x, [(0, count - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
