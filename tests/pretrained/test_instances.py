"""Detectors of torchvision: names old and new, orders of boxes, overrides, answers."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax import pretrained
from segjax.errors import UserError
from segjax.models.groups import merge
from segjax.ops.regions.masks import paste_masks
from segjax.pretrained import convert
from segjax.pretrained.source import abstract_variables, build
from segjax.pretrained.sources import tensors
from segjax.pretrained.torchvision_instances import renamed

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "instances.npz"
MASK = "torchvision/maskrcnn_resnet50_fpn"
SOURCES = sorted(
    name
    for name, source in pretrained.SOURCES.items()
    if source.group["name"] == "mask_rcnn"
)
OLD_NAMES = {
    "backbone.fpn.inner_blocks.0.0.weight": "backbone.fpn.inner_blocks.0.weight",
    "backbone.fpn.layer_blocks.3.0.bias": "backbone.fpn.layer_blocks.3.bias",
    "rpn.head.conv.0.0.weight": "rpn.head.conv.weight",
    "roi_heads.mask_head.3.0.bias": "roi_heads.mask_head.mask_fcn4.bias",
}
"""Today's names, and those of the files that torchvision publishes."""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def shapes_of(golden):
    """The names and shapes of torchvision's tensors."""

    def shapes(source: str) -> dict[str, tuple[int, ...]]:
        text = golden[f"{source} shapes"].tobytes().decode()
        return {name: tuple(shape) for name, shape in json.loads(text).items()}

    return shapes


@pytest.fixture(scope="module")
def hollow(shapes_of):
    """A state dict of nothing but zeros that share four bytes of memory."""

    def state(source: str) -> dict[str, np.ndarray]:
        zero = np.float32(0)
        shapes = shapes_of(source).items()
        return {name: np.broadcast_to(zero, shape) for name, shape in shapes}

    return state


@pytest.fixture(scope="module")
def calm():
    """The functions of `random_instances.py`."""
    path = Path(__file__).with_name("random_instances.py")
    return runpy.run_path(str(path))


def test_the_golden_file_has_all_detectors(golden):
    stored = {key.partition(" ")[0] for key in golden if key.endswith(" shapes")}
    assert set(SOURCES) == stored


@pytest.mark.quick(2)
@pytest.mark.parametrize("source", SOURCES)
def test_every_tensor_of_torchvision_has_its_place(source, hollow):
    entry, state = pretrained.SOURCES[source], hollow(source)
    model = build(entry.group_of(state), "test")
    matched = convert.match(state, entry.names, abstract_variables(model))
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert set(matched.values()) == state.keys() - counters
    assert len(set(matched.values())) == len(matched)


@pytest.mark.parametrize(("new", "old"), OLD_NAMES.items())
def test_names_of_older_files_mean_the_same(new, old):
    assert renamed(old) == renamed(new) == new


def test_a_tensor_under_both_names_is_refused():
    names = ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight")
    state = {name: np.zeros((1, 1, 3, 3), np.float32) for name in names}
    with pytest.raises(
        UserError, match=r"which are both rpn\.head\.conv\.0\.0\.weight"
    ):
        tensors(pretrained.SOURCES[MASK], state, (), what="The weights")


def test_rows_of_deltas_change_from_x_first_to_y_first():
    rows = np.arange(8, dtype=np.float32)
    state = {
        "rpn.head.bbox_pred.bias": rows,
        "roi_heads.box_predictor.bbox_pred.weight": np.stack([rows, -rows], 1),
        "roi_heads.box_predictor.cls_score.bias": rows,
    }
    found = tensors(pretrained.SOURCES[MASK], state, (), what="The weights")
    expected = [1, 0, 3, 2, 5, 4, 7, 6]
    assert found["rpn.head.bbox_pred.bias"].tolist() == expected
    weight = found["roi_heads.box_predictor.bbox_pred.weight"]
    assert weight[:, 0].tolist() == expected
    scores = found["roi_heads.box_predictor.cls_score.bias"]
    assert scores.tolist() == rows.tolist()


@pytest.mark.parametrize("source", SOURCES)
def test_epsilon_of_the_published_weights_reaches_the_backbone(source, hollow):
    group = pretrained.SOURCES[source].group_of(hollow(source))
    expected = 1e-5 if source.endswith("_v2") else 0.0
    assert build(group, "test").backbone.norm.epsilon == expected
    trained = {"backbone": {"norm": {"epsilon": 1e-5}}}
    model = build(merge(group, trained), "test")
    assert model.backbone.norm.epsilon == 1e-5
    assert model.backbone.norm.frozen != source.endswith("_v2")


def test_numbers_of_classes_and_keypoints_are_read_from_the_weights(hollow):
    source = "torchvision/keypointrcnn_resnet50_fpn"
    group = pretrained.SOURCES[source].group_of(hollow(source))
    assert group["num_classes"] == 2
    assert group["roi_heads"] == {"masks": False, "keypoints": 17}
    assert pretrained.SOURCES[MASK].group_of(hollow(MASK))["num_classes"] == 91


@pytest.mark.slow
def test_detections_are_those_of_torchvision(golden, shapes_of, random_weights, calm):
    """For an image whose sides 32 does not divide; others are in the parity tests."""
    height, width = 199, 301
    state = calm["calmed"](random_weights.state_dict(shapes_of(MASK)))
    model, variables = pretrained.load(
        MASK, state, backbone={"norm": {"epsilon": 1e-5}}
    )
    options = {"xla_backend_optimization_level": 0}
    apply = jax.jit(
        lambda v, x: model.apply(v, x, train=False), compiler_options=options
    )
    image = calm["image"](height, width, random_weights.uniform)
    outputs = {k: np.asarray(v[0]) for k, v in apply(variables, image).items()}
    count = len(golden["boxes"])
    assert int(outputs["valid"].sum()) == count
    np.testing.assert_allclose(outputs["boxes"][:count], golden["boxes"], atol=0.05)
    np.testing.assert_allclose(outputs["scores"][:count], golden["scores"], atol=1e-4)
    np.testing.assert_array_equal(outputs["classes"][:count], golden["classes"])
    pasted = paste_masks(
        outputs["masks"][:count], outputs["boxes"][:count], (height, width)
    )
    expected = np.unpackbits(golden["masks"], count=pasted.size).reshape(pasted.shape)
    assert expected.any((1, 2)).mean() > 0.5
    assert (pasted != expected.astype(bool)).mean() < 1e-3


def test_another_number_of_classes_draws_the_heads_anew(hollow):
    """Box head and mask head, and nothing else."""
    entry = pretrained.SOURCES[MASK]
    heads = {entry.names[head] for head in entry.classifier}
    assert heads == {"box_head/logits", "box_head/deltas", "mask_head/logits"}
    group = entry.group_of(hollow(MASK), num_classes=3)
    shapes = abstract_variables(build(group, "test"))["params"]
    assert shapes["box_head"]["logits"]["bias"].shape == (3,)
    assert shapes["box_head"]["deltas"]["bias"].shape == (12,)
    assert shapes["mask_head"]["logits"]["bias"].shape == (3,)
