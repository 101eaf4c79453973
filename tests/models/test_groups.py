"""Groups of a network's config that have no name: what they become, and how they are checked."""

import ml_collections
import pytest

from segjax.errors import UserError
from segjax.layers.norm import Norm
from segjax.models.builder import build_model
from segjax.models.mask_rcnn.attributes import RPN, RoIHeads
from segjax.pretrained.source import build

FCN = {"name": "fcn", "num_classes": 2}
V3 = {"name": "mobilenet_v3"}
DETECTOR = {
    "name": "mask_rcnn",
    "num_classes": 2,
    "backbone": {"name": "resnet", "depth": 18},
}


def made(group, **changes):
    return build_model(ml_collections.ConfigDict(group), changes)


def test_what_a_group_leaves_out_is_as_the_network_has_it():
    model = made({**FCN, "backbone": {**V3, "norm": {"momentum": 0.95}}})
    assert model.norm == Norm()
    assert model.backbone.norm == Norm(momentum=0.95, epsilon=1e-3)
    model = made({**DETECTOR, "norm": {"kind": "group"}, "roi_heads": {"masks": False}})
    assert model.norm == Norm("group")
    assert model.roi_heads == RoIHeads(masks=False)
    assert model.rpn == RPN()


def test_none_is_no_norm_where_that_is_allowed():
    assert made({**DETECTOR, "norm": None}).norm is None
    with pytest.raises(UserError, match='norm is a Norm of the kind "batch", got None'):
        made({**FCN, "norm": None, "backbone": V3})


def test_changes_of_an_evaluation_reach_into_groups():
    group = {**FCN, "backbone": {**V3, "norm": {"momentum": 0.95}}}
    norm = made(group, backbone={"norm": {"frozen": True}}).backbone.norm
    assert norm == Norm(momentum=0.95, epsilon=1e-3, frozen=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"norm": {"momentun": 0.9}},
            'config.model.norm has an unknown key "momentun". Did you mean "momentum"?',
        ),
        (
            {"norm": {"momentum": 2.0}},
            "config.model.norm: momentum is at least 0 and less than 1, got 2.0.",
        ),
        (
            {"norm": "batch"},
            "config.model.norm is 'batch'; it must be a group, dict(...).",
        ),
        (
            {"backbone": {**DETECTOR["backbone"], "norm": {"kind": "layer"}}},
            "config.model.backbone.norm: kind is one of ('batch', 'group'), got 'layer'.",
        ),
        (
            {"rpn": {"nms_thres": 0.5}},
            'config.model.rpn has an unknown key "nms_thres". Did you mean "nms_thresh"?',
        ),
        (
            {"post_processing": {"detections_per_image": 0}},
            "config.model.post_processing: detections_per_image is an integer of at least 1",
        ),
    ],
)
def test_mistakes_are_reported_with_the_path_of_the_group(changes, sentence):
    with pytest.raises(UserError) as caught:
        made(DETECTOR | changes)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"norm": {"eps": 0.1}}, 'the network of test.norm has an unknown key "eps".'),
        (
            {"norm": {"epsilon": -1.0}},
            "the network of test.norm: epsilon is a number of at least 0, got -1.0.",
        ),
        (
            {"norm": "batch"},
            "the network of test.norm is 'batch'; it must be a group, dict(...).",
        ),
    ],
)
def test_mistakes_in_overrides_of_weights_are_reported_too(overrides, sentence):
    with pytest.raises(UserError) as caught:
        build({"name": "resnet", **overrides}, "test")
    assert str(caught.value).startswith(sentence)
