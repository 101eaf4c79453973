"""The settings of `MaskRCNN` in groups, with their checks, before anything is traced.

Names are those of torchvision's detectors where it has them, without the prefix that says
what the group says already: `rpn_nms_thresh` there is `rpn.nms_thresh` here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from segjax.layers.attributes import check_counts, check_flags
from segjax.models.mask_rcnn.pooling import METHODS


@dataclasses.dataclass(frozen=True)
class RPN:
    """Region proposals: anchors, the head, what it is trained on, and what it proposes.

    Attributes:
      anchor_sizes: side of the anchors of each level, pixels, and one for an additional
        level of half the size.
      anchor_ratios: heights over widths of the anchors.
      depth: 3x3 convolutions of the head.
      bg_iou_thresh: overlap below which an anchor is background.
      fg_iou_thresh: least overlap with which an anchor answers for an object.
      batch_size_per_image: anchors of each image that are trained on.
      positive_fraction: largest fraction of objects among them.
      pre_nms_top_n: boxes of each level that compete, in training and in inference.
      post_nms_top_n: those of them that stay, of all levels, in training and in inference.
      nms_thresh: of proposals that overlap by more, the best stays.
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    depth: int = 1
    bg_iou_thresh: float = 0.3
    fg_iou_thresh: float = 0.7
    batch_size_per_image: int = 256
    positive_fraction: float = 0.5
    pre_nms_top_n: tuple[int, int] = (2000, 1000)
    post_nms_top_n: tuple[int, int] = (2000, 1000)
    nms_thresh: float = 0.7

    def __post_init__(self) -> None:
        """Checks the values; a `ValueError` names the field and what is allowed."""
        _freeze(self)
        _check_counts(
            self, "depth", "batch_size_per_image", "pre_nms_top_n", "post_nms_top_n"
        )
        _check_fractions(self, "positive_fraction", "nms_thresh")
        low, high = self.bg_iou_thresh, self.fg_iou_thresh
        if not 0 <= low <= high <= 1:
            raise ValueError(
                "bg_iou_thresh and fg_iou_thresh are numbers from 0 to 1, the first not "
                f"the larger, got {low} and {high}"
            )
        for name in ("pre_nms_top_n", "post_nms_top_n"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 2:
                raise ValueError(
                    f"{name} is two numbers, in training and in inference, got {values}"
                )
        for name in ("anchor_sizes", "anchor_ratios"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise ValueError(f"{name} holds numbers above 0, got {values}")


@dataclasses.dataclass(frozen=True)
class RoIPooling:
    """How regions of the pyramid are brought to one size.

    Attributes:
      method: "align" (RoIAlign) or "pool" (RoIPool).
      aligned: of RoIAlign, whether pixel centres lie at halves.
      sampling_ratio: of RoIAlign, samples of a bin along each axis; 0 adapts them to the
        region.
      canonical_size: side of a region, pixels, that is read from `canonical_level`.
      canonical_level: 4 is the third map.
    """

    method: str = "align"
    aligned: bool = True
    sampling_ratio: int = 2
    canonical_size: float = 224.0
    canonical_level: int = 4

    def __post_init__(self) -> None:
        """Checks the values; a `ValueError` names the field and what is allowed."""
        if self.method not in METHODS:
            raise ValueError(f"method is one of {METHODS}, got {self.method!r}")
        check_flags(aligned=self.aligned)
        if self.sampling_ratio != 0:
            check_counts(sampling_ratio=self.sampling_ratio)
        if not self.canonical_size > 0:
            raise ValueError(f"canonical_size is above 0, got {self.canonical_size}")


@dataclasses.dataclass(frozen=True)
class RoIHeads:
    """The heads on each region: class and box, mask, keypoints.

    Attributes:
      box_size: bins along each side of a region for its class and box.
      box_conv_features: channels of 3x3 convolutions before the dense layers.
      box_features: channels of the dense layers.
      bbox_reg_weights: factors of dy, dx, dh, dw.
      fg_iou_thresh: least overlap with which a region answers for an object.
      batch_size_per_image: regions of each image that are trained on.
      positive_fraction: largest fraction of objects among them.
      masks: whether there is a mask head.
      class_agnostic: whether all classes share one mask.
      mask_size: bins along each side of a region for masks and keypoints; masks have
        twice, maps of keypoints four times as many.
      mask_features: channels of the mask head.
      keypoints: P, where there is a keypoint head.
      keypoint_features: channels of the keypoint head.
    """

    box_size: int = 7
    box_conv_features: tuple[int, ...] = ()
    box_features: tuple[int, ...] = (1024, 1024)
    bbox_reg_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    fg_iou_thresh: float = 0.5
    batch_size_per_image: int = 512
    positive_fraction: float = 0.25
    masks: bool = True
    class_agnostic: bool = False
    mask_size: int = 14
    mask_features: tuple[int, ...] = (256, 256, 256, 256)
    keypoints: int | None = None
    keypoint_features: tuple[int, ...] = (512,) * 8

    def __post_init__(self) -> None:
        """Checks the values; a `ValueError` names the field and what is allowed."""
        _freeze(self)
        _check_counts(
            self, "box_size", "box_features", "batch_size_per_image", "mask_size"
        )
        _check_counts(self, "mask_features")
        _check_fractions(self, "fg_iou_thresh", "positive_fraction")
        check_flags(masks=self.masks, class_agnostic=self.class_agnostic)
        if self.keypoints is not None and self.keypoints < 1:
            raise ValueError(f"keypoints is None or at least 1, got {self.keypoints}")
        weights = self.bbox_reg_weights
        if len(weights) != 4 or min(weights) <= 0:
            raise ValueError(f"bbox_reg_weights is four numbers above 0, got {weights}")


@dataclasses.dataclass(frozen=True)
class PostProcessing:
    """The selection of detections from scored regions.

    Attributes:
      score_thresh: least probability of a detection.
      nms_thresh: of detections of one class that overlap by more, the best stays.
      pre_nms_top_n: pairs of region and class that compete, the best by score.
      detections_per_image: slots of the result, R.
    """

    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    pre_nms_top_n: int = 1000
    detections_per_image: int = 100

    def __post_init__(self) -> None:
        """Checks the values; a `ValueError` names the field and what is allowed."""
        _check_counts(self, "pre_nms_top_n", "detections_per_image")
        _check_fractions(self, "score_thresh", "nms_thresh")


def check_attributes(model: Any) -> None:
    """Checks attributes without a group, and combinations; names are checked elsewhere.

    Args:
      model: the network.

    Raises:
      ValueError: naming the attribute, what it was, and what is allowed.
    """
    _check_counts(model, "num_classes", "fpn_features")
    if model.num_classes < 2:
        raise ValueError(
            f"num_classes counts the background and is at least 2, got "
            f"{model.num_classes}"
        )
    for name, kind in (
        ("rpn", RPN),
        ("roi_pooling", RoIPooling),
        ("roi_heads", RoIHeads),
        ("post_processing", PostProcessing),
    ):
        value = getattr(model, name)
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {kind.__name__}(...), got {value!r}")
    count, sizes = len(model.levels), model.rpn.anchor_sizes
    if not count or len(sizes) not in (count, count + 1):
        raise ValueError(
            "rpn.anchor_sizes is one number a level and one more for an additional "
            f"level, got {sizes} for the levels {model.levels}"
        )
    if len(model.mean) != len(model.std) or min(model.std) <= 0:
        raise ValueError(
            f"mean and std are one number a channel, the latter above 0, got "
            f"{model.mean} and {model.std}"
        )


def _freeze(group: Any) -> None:
    """Turns lists, which cannot be hashed, into tuples."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if isinstance(value, list):
            object.__setattr__(group, field.name, tuple(value))


def _check_counts(group: Any, *names: str) -> None:
    check_counts(**{name: getattr(group, name) for name in names})


def _check_fractions(group: Any, *names: str) -> None:
    for name in names:
        value = getattr(group, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is from 0 to 1, got {value!r}")
