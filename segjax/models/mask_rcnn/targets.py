"""Targets for anchors and regions, which are sampled anew at each step.

Ren, He, Girshick, Sun, NIPS 2015, arXiv 1506.01497, section 3.1.2, and Girshick, ICCV
2015, arXiv 1504.08083, section 2.3. Objects stand in G slots, of which those of class 0
are empty; nothing answers for a crowd, and background within one is not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.regions.boxes import (
    Weights,
    encode,
    pairwise_intersection_over,
    pairwise_iou,
)
from segjax.ops.regions.keypoints import encode_keypoints
from segjax.ops.regions.masks import boxes_in_crops, crop_and_resize_masks
from segjax.ops.regions.matching import ignore_crowds, match, sample, sample_weights
from segjax.types import Array

Batch = Mapping[str, Array]


def check_targets(batch: Batch, *, masks: bool, keypoints: int | None) -> None:
    """Checks that a batch has the objects that the heads are trained on.

    Raises:
      ValueError: naming what is missing, or a wrong number of keypoints.
    """
    needed = ["boxes", "classes", "crowd"]
    needed += ["masks"] * masks + ["keypoints"] * bool(keypoints)
    missing = [name for name in needed if name not in batch]
    if missing:
        raise ValueError(
            f"targets lacks {', '.join(missing)}; allowed is a batch with "
            f"{', '.join(needed)}"
        )
    if keypoints and batch["keypoints"].shape[-2] != keypoints:
        raise ValueError(
            f"targets has {batch['keypoints'].shape[-2]} keypoints an object; allowed "
            f"are {keypoints}, as the model has"
        )


def matched(
    candidates: Array, objects: Batch, *, high: float, low: float, low_quality: bool
) -> Array:
    """The object of one image that each box answers for, as `ops.regions.matching.match` says.

    Args:
      candidates: `[N, 4]`.
      objects: `boxes` `[G, 4]`, `classes` and `crowd` `[G]`.
      high: least IoU with which a box answers for an object.
      low: IoU below which it is background.
      low_quality: whether the best box of every object answers in any case.

    Returns:
      `[N]` int32, -1 for background, -2 for what is not trained on.
    """
    boxes, crowd = objects["boxes"], objects["crowd"] & (objects["classes"] > 0)
    valid = (objects["classes"] > 0) & ~crowd
    overlap = pairwise_iou(boxes, candidates)
    answers = match(overlap, high=high, low=low, low_quality=low_quality, valid=valid)
    hidden = pairwise_intersection_over(candidates, boxes)
    return ignore_crowds(answers, hidden, crowd)


def anchor_targets(
    anchors: Array,
    batch: Batch,
    key: Array,
    *,
    iou: tuple[float, float],
    count: int,
    positive_fraction: float,
) -> dict[str, Array]:
    """Samples the anchors to train on, with their targets.

    Args:
      anchors: of all levels, `[N, 4]`.
      batch: `boxes` `[B, G, 4]`, `classes` and `crowd` `[B, G]`.
      key: of the random choice.
      iou: overlaps below which an anchor is background, and at which it is an object.
      count: anchors sampled in each image.
      positive_fraction: largest fraction of objects among them.

    Returns:
      `rpn_targets` `[B, N, 4]`, `rpn_positive` and `rpn_weights` `[B, N]`.
    """
    low, high = iou

    def one(objects: Batch, priorities: Array) -> dict[str, Array]:
        found = matched(anchors, objects, high=high, low=low, low_quality=True)
        weights = sample_weights(
            found, priorities, num=count, positive_fraction=positive_fraction
        )
        boxes = objects["boxes"][jnp.maximum(found, 0)]
        return {
            "rpn_targets": encode(boxes, anchors),
            "rpn_positive": found >= 0,
            "rpn_weights": weights,
        }

    objects = {name: batch[name] for name in ("boxes", "classes", "crowd")}
    shape = (batch["boxes"].shape[0], anchors.shape[0])
    return jax.vmap(one)(objects, jax.random.uniform(key, shape))


class Regions(NamedTuple):
    """Regions to train on, in S slots: objects first, then background, then none.

    Attributes:
      boxes: `[B, S, 4]`.
      matched: `[B, S]` int32, slot of the object; 0 for background.
      classes: `[B, S]` int32, 0 for background and where there is no region.
      targets: deltas `[B, S, 4]` to the object.
      weights: `[B, S]` float32, 0 where there is no region.
    """

    boxes: Array
    matched: Array
    classes: Array
    targets: Array
    weights: Array


def sample_regions(
    proposals: Array,
    valid: Array,
    batch: Batch,
    key: Array,
    *,
    iou: float,
    count: int,
    positive_fraction: float,
    weights: Weights,
) -> Regions:
    """Samples regions from the proposals and the objects themselves.

    Args:
      proposals: `[B, R, 4]`.
      valid: `[B, R]` bool.
      batch: `boxes` `[B, G, 4]`, `classes` and `crowd` `[B, G]`.
      key: of the random choice.
      iou: least overlap with which a region answers for an object.
      count: slots of each image, S.
      positive_fraction: largest fraction of objects among them.
      weights: of the deltas.

    Returns:
      The regions.
    """

    def one(boxes: Array, valid: Array, objects: Batch, priorities: Array) -> Regions:
        real = (objects["classes"] > 0) & ~objects["crowd"]
        boxes = jnp.concatenate([boxes, objects["boxes"]])
        valid = jnp.concatenate([valid, real])
        found = matched(boxes, objects, high=iou, low=iou, low_quality=False)
        found = jnp.where(valid, found, -2)
        picked = sample(
            found, priorities, num=count, positive_fraction=positive_fraction
        )
        chosen = boxes[picked.index]
        own = jnp.where(picked.positive, found[picked.index], 0)
        return Regions(
            boxes=jnp.where(picked.valid[:, None], chosen, 0),
            matched=own,
            classes=jnp.where(picked.positive, objects["classes"][own], 0),
            targets=encode(objects["boxes"][own], chosen, weights=weights),
            weights=picked.valid.astype(jnp.float32),
        )

    objects = {name: batch[name] for name in ("boxes", "classes", "crowd")}
    slots = proposals.shape[1] + batch["boxes"].shape[1]
    priorities = jax.random.uniform(key, (proposals.shape[0], slots))
    return lax.stop_gradient(jax.vmap(one)(proposals, valid, objects, priorities))


def mask_targets(regions: Regions, batch: Batch, *, size: int) -> Array:
    """Crops the mask of each region's object to the region.

    Args:
      regions: of which only those of objects matter.
      batch: `boxes` `[B, G, 4]`, and `masks` `[B, G, m, m]`, each cropped to its box.
      size: cells along each side of the result.

    Returns:
      Fraction of each cell that the object covers, `[B, S, size, size]` float32; without
      meaning where a region has no object.
    """
    pixels = (batch["masks"].shape[-2], batch["masks"].shape[-1])

    def one(regions: Regions, crops: Array, masks: Array) -> Array:
        own = regions.matched
        places = boxes_in_crops(regions.boxes, crops[own], size=pixels)
        # The background may be huge beside the object in its slot, and time with it.
        places = jnp.where(regions.classes[:, None] > 0, places, 0)
        # Beyond its box an object has no pixels: a rim of zeros, as what lies less than
        # a pixel outside of a map would count as its border.
        rimmed = jnp.pad(masks[own], ((0, 0), (1, 1), (1, 1)))
        return crop_and_resize_masks(rimmed, places + 1, size=size)

    return jax.vmap(one)(regions, batch["boxes"], batch["masks"])


def keypoint_targets(
    regions: Regions, batch: Batch, *, size: int
) -> tuple[Array, Array]:
    """Finds the cell of each keypoint of each region's object.

    Args:
      regions: of which only those of objects matter.
      batch: `keypoints` `[B, G, P, 3]`.
      size: cells along each side of the map.

    Returns:
      The cells `[B, S, P]` int32, and whether they count, `[B, S, P]` float32.
    """

    def one(boxes: Array, own: Array, points: Array) -> tuple[Array, Array]:
        return encode_keypoints(points[own], boxes, size=size)

    cells, valid = jax.vmap(one)(regions.boxes, regions.matched, batch["keypoints"])
    return cells, (valid & (regions.classes > 0)[..., None]).astype(jnp.float32)
