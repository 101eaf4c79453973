"""Metrics from outside: averaged or added up, and one sentence for what is none."""

import math

import numpy as np
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.metrics.direction import score
from segjax.parts import StoredName
from segjax.training import sharding
from segjax.training.outside_metrics import OutsideMetrics

HERE = f"{__name__}:"
CLASSES = ("background", "cell")


def share(label, prediction):
    """The fraction of pixels of class 1; undefined without them, infinite without a label."""
    if not label.size:
        return {"share": math.inf}
    return {"share": prediction.mean() if prediction.any() else math.nan}


def weighted(label, *, factor):
    return {"weighted": factor * np.float32(label.mean())}


class Confidence:
    """The mean probability of what is predicted, over all pixels."""

    def __init__(self, num_classes, class_names):
        assert len(class_names) == num_classes

    def count(self, probabilities):
        return np.array([probabilities.max(-1).sum(), probabilities[..., 0].size])

    def metrics(self, total):
        return {"confidence": total[0] / total[1] if total[1] else math.nan}


def vector(label, num_classes):
    return {"vector": np.zeros(num_classes)}


def number(label):
    return 0.5


def nothing(label):
    return {}


def failing(label):
    raise RuntimeError("my own words")


def changing(label):
    return {f"height_{label.shape[0]}": 0.0}


class Half:
    def count(self, label):
        return label.sum()


class Shapes:
    def count(self, label):
        return label[0]

    def metrics(self, total):
        return {"sum": float(total.sum())}


def image(label):
    label = np.array(label)
    given = np.array(label) * 0 + 1 if label.any() else label
    shown = {"image": label[..., None], "label": label, "name": "a1"}
    probabilities = np.eye(2)[given] if given.size else np.zeros((*given.shape, 2))
    return shown, {"labels": given, "probabilities": probabilities}


def test_a_function_is_averaged_over_the_images_where_it_is_defined():
    metrics = OutsideMetrics(
        (HERE + "share", (HERE + "weighted", {"factor": 4})), CLASSES
    )
    assert metrics.names == ("share", "weighted")
    assert metrics.outputs == ()
    labels = ([[1, 0]], [[0, 0]], [[1, 1]])
    rows = [metrics.add(i, *image(label)) for i, label in enumerate(labels)]
    assert rows[0] == {"share": 1.0, "weighted": 2.0}
    assert math.isnan(rows[1]["share"])
    assert metrics.metrics() == {"share": 1.0, "weighted": pytest.approx(2.0)}


def test_infinite_numbers_are_undefined():
    metrics = OutsideMetrics((HERE + "share",), CLASSES)
    assert math.isnan(metrics.add(0, *image(np.zeros((0, 2), int)))["share"])
    assert math.isnan(metrics.metrics()["share"])


def test_counts_of_a_class_are_added_up_over_images_and_processes(monkeypatch):
    metrics = OutsideMetrics((HERE + "Confidence",), CLASSES)
    assert metrics.outputs == ("probabilities",)
    assert math.isnan(metrics.metrics()["confidence"])
    for i in range(3):
        shown, page = image([[1, 0]] * (i + 1))
        page["probabilities"] = page["probabilities"] * (i + 1) / 4
        metrics.add(i, shown, page)
    expected = (2 * 1 + 4 * 2 + 6 * 3) / 4 / (2 + 4 + 6)
    assert metrics.metrics()["confidence"] == pytest.approx(expected)
    monkeypatch.setattr(sharding, "gather", lambda rows: np.concatenate([rows, rows]))
    metrics.gather()
    assert metrics.metrics()["confidence"] == pytest.approx(expected)


def test_names_that_end_as_errors_do_are_better_the_lower():
    values = {"area_error": 0.2, "my_loss/cell": 0.3, "kappa": 0.4}
    assert [score(values, name) for name in values] == [-0.2, -0.3, 0.4]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ("share", "give a tuple of names"),
        (("mean_iou",), "those of segjax are keys of config.evaluation"),
        ((HERE + "shar",), "has no shar"),
        (("no_such_package.metrics:x",), "Python finds no module no_such_package"),
        ((HERE + "vector",), r"vector gives float64 \[2\] for 'vector'"),
        ((HERE + "number",), "numbers by name"),
        ((HERE + "nothing",), "nothing gives {}: a metric gives numbers by name"),
        ((HERE + "failing",), "fails on a small image: RuntimeError: my own words"),
        ((HERE + "Half",), "without `count` and `metrics`"),
        ((HERE + "weighted",), 'lacks the key "factor"'),
        (((HERE + "share", {"factor": 2}),), 'unknown key "factor"'),
        (((HERE + "share", 2),), r"give a name, or \(name, arguments\)"),
        ((HERE + "share", HERE + "share"), "share is measured twice"),
    ],
)
def test_what_is_no_metric_is_refused_before_anything_is_computed(entries, sentence):
    with pytest.raises(UserError, match=sentence):
        OutsideMetrics(entries, CLASSES)


def test_what_differs_between_images_is_refused_with_the_name_of_the_image():
    with pytest.raises(UserError, match="of some images alone"):
        OutsideMetrics((HERE + "changing",), CLASSES).add(0, *image([[1]]))
    with pytest.raises(UserError, match=r"shape \[2\] of image a1"):
        OutsideMetrics((HERE + "Shapes",), CLASSES).add(0, *image([[1, 0]]))


def test_names_of_segjax_are_taken():
    metrics = OutsideMetrics((HERE + "share",), CLASSES)
    with pytest.raises(UserError, match="share is a metric of segjax"):
        metrics.check_names({"share"})


def test_stored_names_wait_for_leave():
    stored = config_lib.from_dict({"metrics": [HERE + "share"]}).metrics
    assert isinstance(stored[0], StoredName)
    with pytest.raises(UserError, match="--allow_code="):
        OutsideMetrics(stored, CLASSES)
