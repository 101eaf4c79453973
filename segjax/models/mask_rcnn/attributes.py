"""Checks of the attributes of `MaskRCNN`, before anything is traced."""

from __future__ import annotations

from typing import Any

from segjax.layers.attributes import check_counts
from segjax.models.mask_rcnn.pooling import METHODS

COUNTS = (
    "num_classes",
    "fpn_features",
    "rpn_depth",
    "rpn_samples",
    "candidates",
    "proposals",
    "region_samples",
    "box_size",
    "box_features",
    "detection_candidates",
    "detections",
    "mask_size",
    "mask_features",
)

SHARES = (
    "rpn_positive_share",
    "proposal_iou",
    "region_iou",
    "region_positive_share",
    "score_threshold",
    "detection_iou",
)


def check_attributes(model: Any) -> None:
    """Checks counts, shares, and what belongs together; names and dtypes are elsewhere.

    Args:
      model: the network.

    Raises:
      ValueError: naming the attribute, what it was, and what is allowed.
    """
    check_counts(**{name: getattr(model, name) for name in COUNTS})
    for name in SHARES:
        value = getattr(model, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is from 0 to 1, got {value!r}")
    if model.num_classes < 2:
        raise ValueError(
            f"num_classes counts the background and is at least 2, got "
            f"{model.num_classes}"
        )
    low, high = model.rpn_iou
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"rpn_iou is two numbers from 0 to 1, the smaller first, got {model.rpn_iou}"
        )
    for name in ("candidates", "proposals"):
        if len(getattr(model, name)) != 2:
            raise ValueError(
                f"{name} is two numbers, in training and in inference, got "
                f"{getattr(model, name)}"
            )
    _check_levels(model)
    if model.roi_method not in METHODS:
        raise ValueError(f"roi_method is one of {METHODS}, got {model.roi_method!r}")
    if model.keypoints is not None and model.keypoints < 1:
        raise ValueError(f"keypoints is None or at least 1, got {model.keypoints}")
    if len(model.box_weights) != 4 or min(model.box_weights) <= 0:
        raise ValueError(
            f"box_weights is four numbers above 0, got {model.box_weights}"
        )
    if len(model.mean) != len(model.deviation) or min(model.deviation) <= 0:
        raise ValueError(
            f"mean and deviation are one number a channel, the latter above 0, got "
            f"{model.mean} and {model.deviation}"
        )


def _check_levels(model: Any) -> None:
    """Checks that there is a size of anchors for each level, and at most one more."""
    count = len(model.levels)
    if not count or len(model.anchor_sizes) not in (count, count + 1):
        raise ValueError(
            f"anchor_sizes is one number a level and one more for an additional level, "
            f"got {model.anchor_sizes} for the levels {model.levels}"
        )
    for name in ("anchor_sizes", "anchor_ratios"):
        values = getattr(model, name)
        if not values or min(values) <= 0:
            raise ValueError(f"{name} holds numbers above 0, got {values}")
