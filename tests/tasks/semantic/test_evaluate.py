"""Evaluation: every image once, absent classes reported, the right sentence without labels."""

import functools
import logging

import numpy as np
import pytest

from segjax.data.dataset import LazyPage
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.losses import cross_entropy, dice
from segjax.metrics import boundary_counts, boundary_metrics
from segjax.metrics.direction import score
from segjax.tasks.semantic import measures as measures_lib
from segjax.tasks.semantic.baseline import OtsuPredictor
from segjax.tasks.semantic.evaluate import Evaluation, evaluate
from segjax.tasks.semantic.measures import ValidationLoss, loss_of_image
from segjax.training import sharding

SPEC = LabelSpec(("membrane", "cell"), ((0, 0, 0), (255, 255, 255)))


def record(name, label):
    label = np.asarray(label, np.uint8)
    return {"image": label[..., None] * 200, "label": label, "name": name}


class Always:
    """Answers each image with the class that it was made for."""

    def __init__(self, label):
        self.label = label
        self.seen = 0

    def pages(self, images, outputs=("labels",)):
        for image in images:
            self.seen += 1
            labels = np.full(image.shape[:2], self.label, np.uint8)
            probabilities = np.eye(2, dtype=np.float32)[labels]
            logits = 3 * probabilities
            yield {"labels": labels, "probabilities": probabilities, "logits": logits}


RECORDS = [record("a", [[0, 1], [1, 1]]), record("b", [[1, 255], [255, 0]])]


def measure(records=RECORDS, predictor=None, **more):
    arguments = {"split": "validation", "normalization": "range"} | more
    return evaluate(predictor or Always(1), records, SPEC, **arguments)


def test_counts_are_added_before_any_ratio():
    predictor = Always(1)
    report = measure(predictor=predictor)
    assert predictor.seen == 2
    np.testing.assert_array_equal(report.counts, [[0, 2], [0, 4]])
    assert report.metrics["pixel_accuracy"] == pytest.approx(4 / 6)
    assert report.metrics["iou/cell"] == pytest.approx(4 / 6)
    assert report.metrics["mean_iou"] == pytest.approx(4 / 6 / 2)


def test_cells_bring_the_errors_of_electron_microscopy():
    size = 16
    label = np.ones((size, size), np.uint8)
    label[:, size // 2] = 0
    report = measure([record("a", label)], Always(1), cell_class=1)
    assert {"rand_error", "warping_error", "pixel_error"} <= report.metrics.keys()
    assert report.metrics["rand_error"] > 0.2
    assert report.metrics["sections"] == 1


def test_processes_share_the_images_and_add_their_counts(monkeypatch):
    parts = []
    monkeypatch.setattr(sharding, "process_count", lambda: 2)
    monkeypatch.setattr(sharding, "gather", lambda rows: parts.append(rows) or rows)
    for index in (0, 1):
        monkeypatch.setattr(sharding, "process_index", lambda index=index: index)
        measure()
    monkeypatch.undo()
    np.testing.assert_array_equal(sum(parts)[0], measure().counts)


def test_what_fails_in_one_process_ends_all_before_they_wait(monkeypatch):
    class Failing(ValidationLoss):
        def add(self, place, record, page):
            raise ValueError("my own words")

    def agree(failure):
        raise UserError(f"Process 0: {failure}")

    monkeypatch.setattr(sharding, "agree", agree)
    monkeypatch.setattr(sharding, "gather", lambda _: pytest.fail("it waits for ever"))
    with pytest.raises(UserError, match="Process 0: my own words"):
        measure(measures=[Failing(None)])


def test_a_split_without_images_is_refused():
    with pytest.raises(UserError, match='The split "validation" has no images'):
        measure([])


def test_a_split_without_labels_is_refused():
    bare = {key: value for key, value in RECORDS[0].items() if key != "label"}
    with pytest.raises(UserError, match='split "test" has no labels'):
        measure([bare], split="test")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"cell_class": 2}, "cell_class is 2: the classes of the data set are 0 to 1"),
        ({"cell_class": -1}, "cell_class is -1"),
        ({"best_metric": "mean_uoi"}, 'Did you mean "mean_iou"'),
        ({"best_metric": "rand_error"}, "which is not measured"),
        ({"best_metric": "classes_absent"}, "neither more nor less is better"),
        ({"best_metric": "rand_threshold", "cell_class": 1}, "neither more nor less"),
        ({"best_metric": "sections", "cell_class": 1}, "neither more nor less"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        Evaluation(**arguments).check(SPEC)


@pytest.mark.parametrize(
    "arguments", [{"tile": -1}, {"tile": 1.5}, {"cell_class": "1"}]
)
def test_kinds_and_tiles_are_checked_without_data(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name} is"):
        Evaluation(**arguments)


def test_errors_are_better_the_lower_they_are():
    metrics = {"mean_iou": 0.7, "rand_error_at_0.5": 0.2, "iou/error": 0.4, "x": None}
    names = ("mean_iou", "rand_error_at_0.5", "iou/error")
    assert [score(metrics, name) for name in names] == [0.7, -0.2, 0.4]
    assert score(metrics, "x") == score(metrics, "none") == -np.inf
    assert score({"x": float("nan")}, "x") == -np.inf


def test_each_record_is_read_once():
    class Counting(list):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

    report = measure(Counting(RECORDS))
    assert Counting.reads == len(RECORDS) + 1  # one look whether there are labels
    np.testing.assert_array_equal(report.counts, measure().counts)


def test_with_three_classes_the_pixel_error_is_that_of_the_classes():
    """Cell is class 1; membrane given for the third class is right for cells alone."""
    spec = LabelSpec(("a", "cell", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    label = np.ones((8, 8), np.uint8)
    label[:, 4:] = 2

    class Two(Always):
        def pages(self, images, outputs=("labels",)):
            for _ in images:
                labels = np.where(label == 2, 0, label)
                yield {"labels": labels, "probabilities": np.eye(3)[labels]}

    records = [record("a", label)]
    arguments = {"split": "validation", "normalization": "range", "cell_class": 1}
    metrics = evaluate(Two(0), records, spec, **arguments).metrics
    assert metrics["pixel_error"] == pytest.approx(0.5)
    assert metrics["em_pixel_error"] == 0.0


def test_what_can_be_measured_passes():
    for metric in ("mean_iou", "iou/cell", "pixel_accuracy"):
        Evaluation(best_metric=metric).check(SPEC)
    Evaluation(best_metric="rand_error", cell_class=1).check(SPEC)


def test_boundaries_are_measured_where_they_are_asked_for():
    label = np.ones((12, 16), np.uint8)
    label[:, :6] = 0
    shifted = np.roll(label, 1, axis=1)
    records = [record("a", label), record("b", 1 - label)]

    class Shifted(Always):
        def pages(self, images, outputs=("labels",)):
            for image in images:
                yield {"labels": np.roll(image[..., 0] > 0.1, 1, axis=1).astype(int)}

    wanted = Evaluation(boundary_f1=True, trimap_widths=(1, 3)).measures(SPEC)
    report = measure(records, Shifted(0), measures=wanted)
    scores = sum(
        boundary_counts(label, given, num_classes=2)
        for label, given in ((label, shifted), (1 - label, 1 - shifted))
    )
    expected = boundary_metrics(scores, SPEC.names)
    assert {key: report.metrics[key] for key in expected} == expected
    # Of the pixels beside the boundary one row in two is wrong.
    assert report.metrics["trimap_pixel_accuracy/1"] == pytest.approx(1 / 2)
    assert report.metrics["trimap_pixel_accuracy/3"] == pytest.approx(5 / 6)
    bare = measure(records, Shifted(0)).metrics
    assert bare == {key: report.metrics[key] for key in bare}
    assert not any(key.startswith(("boundary", "trimap")) for key in bare)


def test_boundaries_of_all_processes_are_added(monkeypatch):
    label = np.eye(6, dtype=np.uint8)
    records = [record("a", label), record("b", 1 - label), record("c", label)]
    wanted = Evaluation(
        boundary_f1=True, boundary_iou=True, trimap_widths=(1, 2), calibration=True
    )
    loss = loss_of_image(cross_entropy, 2)

    def measured():
        measures = [*wanted.measures(SPEC), ValidationLoss(loss)]
        return measure(records, measures=measures)

    expected = measured().metrics
    parts, counted = [], []
    monkeypatch.setattr(sharding, "process_count", lambda: 2)
    monkeypatch.setattr(sharding, "gather", lambda rows: counted.append(rows) or rows)
    for index in (0, 1):
        monkeypatch.setattr(sharding, "process_index", lambda index=index: index)
        measured()
        parts.append(counted[:])
        counted.clear()
    both = iter([np.concatenate(rows) for rows in zip(*parts, strict=True)])
    monkeypatch.setattr(sharding, "gather", lambda rows: next(both))
    assert measured().metrics == pytest.approx(expected, nan_ok=True)


def test_the_loss_is_that_of_all_pixels_whatever_the_sizes_of_images():
    random = np.random.default_rng(0)
    labels = [random.integers(0, 2, size) for size in ((3, 5), (70, 9), (2, 2))]
    labels[1][:60] = 255
    labels[2][:] = 255
    records = [record(str(i), label) for i, label in enumerate(labels)]
    weights = [random.random(label.shape).astype(np.float32) for label in labels]
    windows = LazyPage(weights[0].shape, lambda window: weights[0][window or ...])
    read = [windows, *weights[1:]]
    measures = [ValidationLoss(loss_of_image(cross_entropy, 2), lambda i, _: read[i])]
    found = measure(records, measures=measures).metrics["loss"]
    sure = -np.log(1 / (1 + np.exp(-3)))  # `Always` gives logits of 3 and 0
    pixels = [(label != 255).sum() for label in labels]
    sums = [
        (weight * np.where(label == 1, sure, sure + 3))[label != 255].sum()
        for label, weight in zip(labels, weights, strict=True)
    ]
    assert found == pytest.approx(sum(sums) / sum(pixels), rel=1e-5)
    one, other = (
        measure(records[:1], measures=[ValidationLoss(loss_of_image(dice, 2), pads=x)])
        for x in (True, False)
    )
    assert one.metrics["loss"] == pytest.approx(other.metrics["loss"])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_over_pixels_is_that_of_tiles(reduction, monkeypatch):
    monkeypatch.setattr(measures_lib, "_TILE", 6)
    loss = loss_of_image(functools.partial(cross_entropy, reduction=reduction), 2)
    random = np.random.default_rng(0)
    label = random.integers(0, 2, (13, 9))
    label[:6] = 255  # tiles without a pixel that counts
    page = {"logits": random.normal(size=(13, 9, 2)).astype(np.float32)}
    shown, weight = record("a", label), random.random((13, 9)).astype(np.float32)
    whole = ValidationLoss(loss, lambda *_: weight)
    tiled = ValidationLoss(loss, lambda *_: weight, reduction=reduction)
    expected = whole.add(0, shown, page)["loss"]
    assert tiled.add(0, shown, page)["loss"] == pytest.approx(expected, rel=1e-5)


def test_other_losses_of_huge_images_are_left_out_with_a_line(monkeypatch, caplog):
    monkeypatch.setattr(measures_lib, "_MOST_LOGITS", 7)
    monkeypatch.setattr(logging.getLogger("segjax"), "propagate", True)
    loss = ValidationLoss(lambda *_: pytest.fail("it is computed"))
    found = measure(measures=[loss]).metrics  # of 8 logits each
    assert np.isnan(found["loss"])
    assert [r.getMessage() for r in caplog.records] == [
        "The loss is not measured: it is no mean over pixels, and the image a of 2 x 2 "
        "pixels is too large for it."
    ]


def test_a_loss_that_reads_other_outputs_is_not_that_of_whole_images():
    with pytest.raises(UserError, match=r"from the logits alone.*KeyError: 'edges'"):
        loss_of_image(lambda outputs, batch: outputs["edges"].sum(), 2)


def test_boundary_metrics_can_mark_the_best_checkpoint():
    Evaluation(best_metric="boundary_f1", boundary_f1=True).check(SPEC)
    Evaluation(best_metric="trimap_mean_iou/5", trimap_widths=(5,)).check(SPEC)
    with pytest.raises(UserError, match="not measured"):
        Evaluation(best_metric="boundary_f1").check(SPEC)
    with pytest.raises(ValueError, match=r"^trimap_widths must be numbers"):
        Evaluation(trimap_widths=(5, 1))


@pytest.mark.parametrize("cell_class", [0, 1])
def test_otsu_takes_light_for_cells(cell_class):
    image = np.full((8, 8, 1), 0.9, np.float32)
    image[:, 3:5] = 0.1
    (page,) = OtsuPredictor(0.0, cell_class).pages([image])
    assert (page["labels"][:, 0] == cell_class).all()
    assert (page["labels"][:, 3] == 1 - cell_class).all()
    np.testing.assert_array_equal(page["probabilities"].argmax(-1), page["labels"])
