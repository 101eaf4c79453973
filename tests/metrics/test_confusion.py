"""Confusion counts against counting by hand, and ratios against the lecture's example."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax.metrics import confusion
from segjax.metrics.confusion import confusion_counts, semantic_metrics, without_nan
from segjax.types import IGNORE_LABEL

LECTURE = np.array([[50, 5, 5], [10, 20, 0], [0, 2, 8]])


def random_case(num_classes, shape=(2, 30, 41), seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape)
    prediction = np.where(
        rng.random(shape) < 0.6, label, rng.integers(0, num_classes, shape)
    )
    label[rng.random(shape) < 0.1] = IGNORE_LABEL
    return label, prediction


def count_by_hand(label, prediction, num_classes):
    counts = np.zeros((num_classes, num_classes), int)
    for t, p in zip(label.ravel(), prediction.ravel(), strict=True):
        if t != IGNORE_LABEL:
            counts[t, p] += 1
    return counts


@pytest.mark.parametrize("num_classes", [1, 2, 11, 21])
@pytest.mark.parametrize("jitted", [False, True])
def test_counts_are_those_counted_by_hand(num_classes, jitted):
    label, prediction = random_case(num_classes)
    count = lambda t, p: confusion_counts(t, p, num_classes=num_classes)
    counts = (jax.jit(count) if jitted else count)(label, prediction)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, count_by_hand(label, prediction, num_classes))


@pytest.mark.parametrize("size", [7, confusion._BLOCK, confusion._BLOCK + 1])
@pytest.mark.parametrize("form", ["_counts_by_bins", "_counts_by_products"])
def test_the_form_of_each_backend_counts_the_same(form, size):
    label, prediction = random_case(5, (size,))
    expected = np.histogram2d(label, prediction, bins=[np.arange(6) - 0.5] * 2)[0]
    masked = jnp.where(label == IGNORE_LABEL, 5, label)
    counts = getattr(confusion, form)(masked, jnp.asarray(prediction), 5)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("form", ["_counts_by_bins", "_counts_by_products"])
def test_counts_are_exact_beyond_the_integers_of_float32(form):
    size = (1 << 24) + 3
    zeros = jnp.zeros(size, jnp.int32)
    counts = jax.jit(getattr(confusion, form), static_argnums=2)(zeros, zeros, 1)
    assert counts.tolist() == [[size]]


def test_counts_under_vmap_are_those_of_each_image():
    label, prediction = random_case(3)
    count = lambda t, p: confusion_counts(t, p, num_classes=3)
    each = jax.vmap(count)(jnp.asarray(label), jnp.asarray(prediction))
    np.testing.assert_array_equal(each[1], count_by_hand(label[1], prediction[1], 3))


def test_counts_of_batches_add_up_to_the_count_of_the_set():
    label, prediction = random_case(4)
    parts = sum(
        confusion_counts(t, p, num_classes=4)
        for t, p in zip(label, prediction, strict=True)
    )
    np.testing.assert_array_equal(
        parts, confusion_counts(label, prediction, num_classes=4)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers_of_any_width_are_counted(dtype):
    label = np.array([[0, 1, 1]], dtype)
    counts = confusion_counts(label, label[:, ::-1], num_classes=2, ignore_label=-1)
    assert counts.tolist() == [[0, 1], [1, 1]]


def test_classes_out_of_range_are_not_counted_as_others():
    label = np.array([[0, 1, 2, -1, 1, 1]])
    prediction = np.array([[0, 1, 0, 0, 2, -1]])
    counts = confusion_counts(label, prediction, num_classes=2)
    assert counts.tolist() == [[1, 0], [0, 1]]


def test_shapes_that_differ_and_probabilities_are_refused():
    label = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r"one shape.*\(2, 3\).*\(3, 2\)"):
        confusion_counts(label, label.T, num_classes=2)
    with pytest.raises(ValueError, match=r"prediction must hold integers.*float32"):
        confusion_counts(label, label.astype(np.float32), num_classes=2)


def test_the_four_metrics_are_those_of_the_lecture():
    metrics = semantic_metrics(LECTURE, ("a", "b", "c"))
    assert metrics["pixel_accuracy"] == pytest.approx(0.78)
    assert metrics["pixel_error"] == pytest.approx(0.22)
    assert metrics["mean_accuracy"] == pytest.approx(0.766667, abs=1e-6)
    assert metrics["mean_iou"] == pytest.approx(0.596053, abs=1e-6)
    assert metrics["frequency_weighted_iou"] == pytest.approx(0.644067, abs=1e-6)
    iou = [metrics[f"iou/{name}"] for name in "abc"]
    assert iou == pytest.approx([0.714286, 0.540541, 0.533333], abs=1e-6)
    assert metrics["classes_absent"] == 0


def test_dice_is_twice_the_iou_over_one_plus_the_iou():
    metrics = semantic_metrics(LECTURE, ("a", "b", "c"))
    dice = [metrics[f"dice/{name}"] for name in "abc"]
    iou = np.array([metrics[f"iou/{name}"] for name in "abc"])
    assert dice == pytest.approx(2 * iou / (1 + iou))
    assert metrics["mean_dice"] == pytest.approx(np.mean(dice))


def test_an_absent_class_is_left_out_and_reported():
    padded = np.zeros((4, 4), int)
    padded[:3, :3] = LECTURE
    metrics = semantic_metrics(padded, ("a", "b", "c", "absent"))
    without = semantic_metrics(LECTURE, ("a", "b", "c"))
    assert metrics["classes_absent"] == 1
    for key in ("iou/absent", "accuracy/absent", "dice/absent"):
        assert math.isnan(metrics[key])
    for key in without.keys() - {"classes_absent"}:
        assert metrics[key] == pytest.approx(without[key])


def test_a_class_predicted_where_there_is_none_costs_iou_but_has_no_accuracy():
    metrics = semantic_metrics(np.array([[3, 1], [0, 0]]))
    assert metrics["iou/1"] == metrics["dice/1"] == 0
    assert math.isnan(metrics["accuracy/1"])
    assert metrics["mean_iou"] == 0.375
    assert metrics["mean_accuracy"] == 0.75
    assert metrics["classes_absent"] == 0


def test_nothing_counted_has_no_metrics():
    metrics = semantic_metrics(np.zeros((2, 2), int))
    assert metrics.pop("classes_absent") == 2
    assert all(map(math.isnan, metrics.values()))


def test_metrics_are_python_floats_and_absent_ones_are_null_in_json():
    metrics = semantic_metrics(jnp.array([[1, 0], [0, 0]]))
    assert all(type(value) is float for value in metrics.values())
    written = json.dumps(without_nan(metrics), allow_nan=False)
    assert json.loads(written)["iou/1"] is None


def test_counts_that_are_not_square_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[K, K\].*\(2, 3\)"):
        semantic_metrics(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="3 different names"):
        semantic_metrics(LECTURE, ("a", "b"))
    with pytest.raises(ValueError, match="3 different names"):
        semantic_metrics(LECTURE, ("a", "b", "b"))


FCN8S, ATROUS = "2007_000129_fcn8s", "2007_000129_atrousfcn_resnet50_16s"
CROPS = ("crops513/1", "crops513/23", "crops513/114")


@pytest.mark.parametrize("name", [FCN8S, ATROUS, *CROPS])
def test_published_predictions_on_voc_score_as_computed_elsewhere(shared_data, name):
    folder = shared_data / "voc2012_mini"
    expected = json.loads((folder / "scores.json").read_text())[name]
    if name in CROPS:
        files = folder / f"{name}_target.png", folder / f"{name}_pred.png"
    else:
        label = folder / "SegmentationClass" / "2007_000129.png"
        files = label, folder / "predictions" / f"{name}.png"
    label, prediction = (np.asarray(Image.open(file)) for file in files)
    classes = tuple((folder / "class_names.txt").read_text().split())
    counts = confusion_counts(label, prediction, num_classes=len(classes))
    for true, row in expected["confusion"].items():
        for given, number in row.items():
            assert counts[classes.index(true), classes.index(given)] == number
    assert int(counts.sum()) == expected["pixels_evaluated"]
    metrics = semantic_metrics(counts, classes)
    for ours, theirs in (
        ("pixel_accuracy", "pixel_accuracy"),
        ("mean_accuracy", "mean_class_accuracy"),
        ("mean_iou", "mean_iou_over_union_classes"),
        ("frequency_weighted_iou", "fw_iou"),
    ):
        assert metrics[ours] == pytest.approx(expected[theirs], rel=1e-12)
    for true, iou in expected["iou"].items():
        assert metrics[f"iou/{true}"] == pytest.approx(iou, rel=1e-12)
    assert metrics["classes_absent"] == len(classes) - len(expected["iou"])
