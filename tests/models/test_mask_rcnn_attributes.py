"""Settings of Mask R-CNN: bad values are reported, and equal ones are one key of a cache."""

import re

import pytest

from segjax.models.mask_rcnn.attributes import RPN, PostProcessing, RoIHeads, RoIPooling


@pytest.mark.parametrize(
    ("group", "values", "sentence"),
    [
        (
            RPN,
            {"bg_iou_thresh": 0.8},
            "bg_iou_thresh and fg_iou_thresh are numbers from 0 to 1, the first not the "
            "larger, got 0.8 and 0.7",
        ),
        (
            RPN,
            {"pre_nms_top_n": (8,)},
            "pre_nms_top_n is two numbers, in training and in inference, got (8,)",
        ),
        (RPN, {"depth": 0}, "depth is an integer of at least 1, got 0"),
        (RPN, {"anchor_ratios": ()}, "anchor_ratios holds numbers above 0, got ()"),
        (
            RoIPooling,
            {"method": "warp"},
            "method is one of ('align', 'pool'), got 'warp'",
        ),
        (RoIPooling, {"aligned": 1}, "aligned is True or False, got 1"),
        (RoIPooling, {"canonical_size": 0}, "canonical_size is above 0, got 0"),
        (RoIHeads, {"keypoints": 0}, "keypoints is None or at least 1, got 0"),
        (
            RoIHeads,
            {"bbox_reg_weights": (1.0, 1.0)},
            "bbox_reg_weights is four numbers above 0, got (1.0, 1.0)",
        ),
        (PostProcessing, {"nms_thresh": 1.5}, "nms_thresh is from 0 to 1, got 1.5"),
    ],
)
def test_bad_settings_are_reported_in_one_sentence(group, values, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        group(**values)


def test_settings_from_lists_are_hashable_too():
    assert hash(RPN(anchor_sizes=[8, 16])) == hash(RPN(anchor_sizes=(8, 16)))
