"""The search for objects: one measure with evaluation, one image in memory at a time."""

import logging

import numpy as np
import pytest

from segjax.data.dataset import LazyRecords
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import Percentiles
from segjax.objects.separation import Separation
from segjax.tasks.semantic import object_search
from segjax.tasks.semantic.evaluate import evaluate
from segjax.tasks.semantic.object_search import (
    ObjectScene,
    predict_object_scenes,
    tune_separation,
)

SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))
START = Separation(min_area=0)


class Brightness:
    """Takes what is brighter than one half for a cell."""

    def pages(self, images, outputs):
        for image in images:
            labels = (image[..., 0] > 0.5).astype(np.uint8)
            yield {"labels": labels, "probabilities": np.eye(2)[labels]}


def record(number, brightness=255):
    """A square, of which the image has one row too few."""
    cells = np.zeros((20, 24), np.uint16)
    cells[5:15, 6:16] = 3
    seen = np.where(cells > 0, brightness, 0).astype(np.uint8)
    seen[5:6] = 0
    return {
        "image": seen[..., None],
        "label": (cells > 0).astype(np.uint8),
        "cells": cells,
        "name": f"image{number}",
        "stack": "a.tif",
    }


def test_the_search_begins_with_the_f1_that_evaluation_reports(tmp_path):
    records = [record(0), record(1)]
    report = evaluate(
        *(Brightness(), records, SPEC),
        split="test",
        normalization="range",
        separation=START,
    )
    scenes = predict_object_scenes(Brightness(), records, [0, 1], "range", tmp_path)
    found = tune_separation(scenes, START)
    assert found.start == pytest.approx(report.metrics["mean_f1"])
    assert found.start == pytest.approx(0.9)  # the IoU is 0.9, below one threshold
    assert np.load(scenes[0].cells).dtype == np.uint16


@pytest.mark.parametrize(
    ("images", "objects", "words"),
    [(4, 40, "(4)"), (5, 9, "(45)"), (5, 10, "")],
)
def test_values_that_are_fitted_to_few_are_reported_so(
    tmp_path, caplog, monkeypatch, images, objects, words
):
    np.save(tmp_path / "cells.npy", np.arange(objects + 1)[None] * 7)
    scene = ObjectScene(tmp_path / "cells.npy", tmp_path / "none.npy")
    monkeypatch.setattr(object_search, "_mean_f1", lambda *_: 0.5)
    with caplog.at_level(logging.WARNING, "segjax"):
        tune_separation([scene] * images, START)
    assert ("fitted to few" in caplog.text) == bool(words)
    assert words in caplog.text


def test_records_are_read_when_they_are_predicted(tmp_path):
    read = []

    class Lazy(Brightness):
        def pages(self, images, outputs):
            for number, page in enumerate(super().pages(images, outputs), 1):
                assert len(read) == number
                yield page

    def reading(i):
        read.append(i)
        return record(i)

    predict_object_scenes(
        Lazy(), LazyRecords(reading, range(9)), [0, 4, 8], "range", tmp_path
    )
    assert read == [0, 4, 8]


def test_pages_are_scaled_as_their_stack(tmp_path):
    records = [record(0, brightness=60), record(1)]
    method = Percentiles(low=0, high=100, over="stack")
    scenes = predict_object_scenes(Brightness(), records, [0], method, tmp_path)
    assert np.load(scenes[0].probabilities)[..., 1].max() == 0
