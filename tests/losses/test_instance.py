"""Losses of Mask R-CNN beside their definitions, and on images without objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import INSTANCE_LOSSES
from segjax.losses.instance import mask_rcnn_loss, smooth_l1

B, N, S, K, M, CELLS, P = 2, 12, 6, 4, 3, 5, 3
LOGITS = ("rpn_logits", "class_logits", "mask_logits", "keypoint_logits")
ANSWERS = (*LOGITS, "rpn_deltas", "box_deltas")


def random_outputs(seed=0, agnostic=False):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: 2 * rng.normal(size=shape)
    kinds = 1 if agnostic else K
    classes = rng.integers(0, K, (B, S))
    classes[:, 0] = 2
    masks = np.zeros((B, M))
    masks[:, 0] = 1
    outputs = {
        "rpn_logits": normal(B, N),
        "rpn_deltas": normal(B, N, 4),
        "rpn_targets": normal(B, N, 4),
        "rpn_positive": rng.random((B, N)) < 0.4,
        "rpn_weights": (rng.random((B, N)) < 0.6).astype(float),
        "class_logits": normal(B, S, K),
        "box_deltas": normal(B, S, kinds, 4),
        "class_targets": classes.astype(np.int32),
        "box_targets": normal(B, S, 4),
        "box_weights": (rng.random((B, S)) < 0.7).astype(float),
        "mask_logits": normal(B, M, CELLS, CELLS),
        "mask_targets": rng.random((B, M, CELLS, CELLS)),
        "mask_weights": masks,
        "keypoint_logits": normal(B, M, CELLS, CELLS, P),
        "keypoint_cells": rng.integers(0, CELLS**2, (B, M, P)).astype(np.int32),
        "keypoint_valid": rng.random((B, M, P)) < 0.5,
    }
    return {
        name: x.astype(np.float32) if x.dtype == float else x
        for name, x in outputs.items()
    }


def absolute(error, beta=1 / 9):
    error = abs(error)
    return error**2 / (2 * beta) if error < beta else error - beta / 2


def entropy(logits, k):
    return np.log(np.exp(logits).sum()) - logits[k]


def binary(logit, target):
    p = 1 / (1 + np.exp(-logit))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def by_hand(o):
    """All parts, one anchor, region, pixel and keypoint at a time, in float64."""
    o = {k: v.astype(float) if v.dtype == np.float32 else v for k, v in o.items()}
    parts = dict.fromkeys(
        ["rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss"], 0.0
    )
    anchors, regions = o["rpn_weights"].sum(), o["box_weights"].sum()
    for i in np.argwhere(o["rpn_weights"]):
        i = tuple(i)
        parts["rpn_class_loss"] += binary(o["rpn_logits"][i], o["rpn_positive"][i])
        if o["rpn_positive"][i]:
            errors = o["rpn_deltas"][i] - o["rpn_targets"][i]
            parts["rpn_box_loss"] += sum(map(absolute, errors))
    for i in np.argwhere(o["box_weights"]):
        i = tuple(i)
        k = o["class_targets"][i]
        parts["class_loss"] += entropy(o["class_logits"][i], k)
        if k:
            deltas = o["box_deltas"][i]
            errors = deltas[k if len(deltas) > 1 else 0] - o["box_targets"][i]
            parts["box_loss"] += sum(map(absolute, errors))
    parts = {
        name: value / (anchors if name.startswith("rpn") else regions)
        for name, value in parts.items()
    }
    masks = []
    for i in map(tuple, np.argwhere(o["mask_weights"])):
        masks.append(binary(o["mask_logits"][i], o["mask_targets"][i]).mean())
    points = [
        entropy(
            o["keypoint_logits"][b, m, ..., p].ravel(), o["keypoint_cells"][b, m, p]
        )
        for b, m, p in np.argwhere(o["keypoint_valid"])
    ]
    return parts | {"mask_loss": np.mean(masks), "keypoint_loss": np.mean(points)}


loss = jax.jit(lambda outputs: mask_rcnn_loss(outputs, {}))


def derive(outputs):
    answers = {name: outputs[name] for name in ANSWERS}
    rest = {name: x for name, x in outputs.items() if name not in ANSWERS}
    value = lambda answers: mask_rcnn_loss(answers | rest, {})[0]
    return jax.value_and_grad(value)(answers)


gradient = jax.jit(derive)


@pytest.mark.parametrize("agnostic", [False, True])
def test_every_part_is_the_sum_that_defines_it(agnostic):
    outputs = random_outputs(agnostic=agnostic)
    total, parts = loss(outputs)
    expected = by_hand(outputs)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        assert float(parts[name]) == pytest.approx(value, rel=1e-5), name
    assert float(total) == pytest.approx(sum(expected.values()), rel=1e-5)
    assert total.dtype == jnp.float32


def test_a_batch_without_objects_trains_the_background_alone():
    outputs = random_outputs()
    for name in ("rpn_positive", "class_targets", "mask_weights", "keypoint_valid"):
        outputs[name] = np.zeros_like(outputs[name])
    # What stands in the targets of slots that nobody drew does not matter.
    for name in ("rpn_targets", "box_targets", "mask_targets"):
        outputs[name] = np.full_like(outputs[name], np.nan)
    value, slopes = gradient(outputs)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    trained = {name for name, slope in slopes.items() if np.asarray(slope).any()}
    assert trained == {"rpn_logits", "class_logits"}


def test_a_batch_of_nothing_costs_nothing():
    outputs = random_outputs()
    for name in ("rpn_weights", "box_weights", "mask_weights", "keypoint_valid"):
        outputs[name] = np.zeros_like(outputs[name])
    for name in ("rpn_targets", "box_targets", "mask_targets"):
        outputs[name] = np.full_like(outputs[name], np.inf)
    value, slopes = gradient(outputs)
    assert float(value) == 0
    assert not any(np.asarray(slope).any() for slope in slopes.values())


def test_extreme_logits_cost_what_they_should_and_have_a_slope():
    outputs = random_outputs()
    for name in LOGITS:
        outputs[name] = 1e4 * np.sign(outputs[name])
    value, slopes = gradient(outputs)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes.values())


def test_the_gradient_is_the_slope_of_the_definition():
    outputs = random_outputs(seed=3)
    _, slopes = gradient(outputs)
    rng = np.random.default_rng(0)
    for name in ANSWERS:
        step = 1e-5 * rng.normal(size=outputs[name].shape)
        ends = [
            sum(by_hand(outputs | {name: outputs[name].astype(float) + s}).values())
            for s in (step, -step)
        ]
        slope = (ends[0] - ends[1]) / 2
        found = float((np.asarray(slopes[name]) * step).sum())
        assert found == pytest.approx(slope, rel=1e-3, abs=1e-9), name


def test_parts_can_be_left_out_and_weighed():
    outputs = random_outputs()
    _, parts = loss(outputs)
    alone = {k: v for k, v in outputs.items() if not k.startswith(("mask", "keypoint"))}
    total, found = mask_rcnn_loss(alone, {}, rpn_weight=2.0, box_weight=0.5)
    assert not {"mask_loss", "keypoint_loss"} & found.keys()
    expected = 2 * (parts["rpn_class_loss"] + parts["rpn_box_loss"])
    expected += 0.5 * (parts["class_loss"] + parts["box_loss"])
    assert float(total) == pytest.approx(float(expected), rel=1e-5)
    assert found["class_loss"] == pytest.approx(float(parts["class_loss"]), rel=1e-6)


def test_smooth_l1_is_a_square_then_a_line():
    error = jnp.array([-2.0, -0.05, 0.0, 0.05, 2.0])
    expected = [absolute(float(e), 0.1) for e in error]
    assert smooth_l1(error, beta=0.1).tolist() == pytest.approx(expected)
    assert smooth_l1(error, beta=0.0).tolist() == pytest.approx(np.abs(error))


def test_what_cannot_be_is_refused():
    outputs = random_outputs()
    with pytest.raises(
        ValueError, match="deltas are of 3 classes; allowed are 1, or 4"
    ):
        mask_rcnn_loss(outputs | {"box_deltas": outputs["box_deltas"][:, :, :3]}, {})
    with pytest.raises(ValueError, match="mask_weight and keypoint_weight must be"):
        INSTANCE_LOSSES["mask_rcnn"](outputs, {}, mask_weight=-1.0)
    with pytest.raises(ValueError, match="beta is -1; allowed are finite numbers"):
        smooth_l1(jnp.zeros(2), beta=-1)
