"""The table of single images: worst first, with the pictures in the same order."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from segjax.data.label_spec import LabelSpec
from segjax.objects.separation import Separation
from segjax.output.folder import Outputs
from segjax.tasks.semantic import per_image
from segjax.tasks.semantic.evaluate import Evaluation, evaluate
from segjax.tasks.semantic.per_image import PerImage
from segjax.training.run_files.image_table import TABLE, WORST

SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (255, 160, 0)))


def record(number, errors):
    """A square of which the prediction, the image itself, misses some rows."""
    label = np.zeros((20, 24), np.uint8)
    label[5:15, 6:16] = 1
    seen = label.copy()
    seen[5 : 5 + errors] = 0
    label[0, 0] = 255
    cells = np.where(label == 1, 7, 0).astype(np.uint16)
    image = seen[..., None] * 200
    return {"image": image, "label": label, "cells": cells, "name": f"image{number}"}


class FromTheImage:
    """Predicts that what is bright is a cell."""

    def pages(self, images, outputs):
        for image in images:
            labels = (image[..., 0] > 0.5).astype(np.uint8)
            yield {"labels": labels, "probabilities": np.eye(2)[labels]}


def measured(errors, tmp_path):
    records = [record(i, count) for i, count in enumerate(errors)]
    table = PerImage(records, SPEC, objects=True)
    evaluate(
        FromTheImage(),
        records,
        SPEC,
        split="test",
        normalization="range",
        separation=Separation(min_area=0),
        per_image=table,
    )
    outputs = Outputs(tmp_path / "out", [(x, "the evaluation") for x in table.files])
    outputs.make_folder()
    table.write(outputs)
    text = (tmp_path / "out" / TABLE).read_text()
    return list(csv.DictReader(io.StringIO(text)))


def test_the_worst_image_is_the_first_row(tmp_path):
    rows = measured([0, 7, 2, 10], tmp_path)
    assert [row["name"] for row in rows] == ["image3", "image1", "image2", "image0"]
    worst, second, third, best = rows
    assert float(third["iou/cell"]) == 0.8
    assert float(third["dice/cell"]) == float(f"{2 * 80 / 180:.6g}")
    assert third["pixels"] == str(20 * 24 - 1)
    assert (second["f1@0.5"], third["f1@0.5"]) == ("0", "1")
    assert (worst["true_objects"], worst["found_objects"]) == ("1", "0")
    assert worst["surface_distance"] == ""  # nothing was found
    assert (best["hausdorff_95"], best["boundary_f1"]) == ("0", "1")


def test_outlines_that_were_measured_are_not_counted_again(monkeypatch):
    again = lambda *_, **__: pytest.fail("it is counted again")
    kinds = per_image._OF_OUTLINES
    monkeypatch.setattr(
        per_image, "_OF_OUTLINES", tuple((name, again, read) for name, _, read in kinds)
    )
    given = record(0, 3)
    wanted = Evaluation(boundary_f1=True, boundary_iou=True, surface_distance=True)
    table = PerImage([given], SPEC)
    options = {"split": "test", "normalization": "range", "per_image": table}
    measures = wanted.measures(SPEC)
    report = evaluate(FromTheImage(), [given], SPEC, measures=measures, **options)
    (row,) = table.rows()
    for name, _, _ in kinds:
        assert row[name] == report.metrics[name]


def test_pictures_are_of_the_first_rows(tmp_path):
    rows = measured([1, 2, 3, 1, 2, 3, 1, 2, 3, 9, 8], tmp_path)
    names = [row["picture"] for row in rows]
    assert names == [*(f"worst_{i + 1}.png" for i in range(WORST)), "", "", ""]
    assert [row["name"] for row in rows[:3]] == ["image9", "image10", "image2"]

    def picture(name):
        with Image.open(tmp_path / "out" / name) as image:
            return np.asarray(image)

    assert (picture("worst_1.png") != picture("worst_8.png")).any()
