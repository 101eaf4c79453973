"""Baselines: which class is light is learned, not assumed; a watershed counts objects."""

import numpy as np
import pytest

from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.semantic.baseline import (
    evaluate_baseline,
    evaluate_baselines,
    evaluate_watershed,
    has_default_baseline,
)
from segjax.tasks.semantic.evaluate import Evaluation

SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))


def record(dark, places=((10, 10), (30, 28))):
    """Two discs with noise, lighter or darker than what is around them."""
    y, x = np.mgrid[:48, :40]
    cells = np.zeros((48, 40), np.uint16)
    for number, (i, j) in enumerate(places, 1):
        cells[(y - i) ** 2 + (x - j) ** 2 < 49] = number
    label = (cells > 0).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 8, label.shape)
    grey = np.where(label == dark, 60, 190) + noise
    image = grey.astype(np.uint8)[..., None]
    return {"image": image, "label": label, "cells": cells, "name": "a"}


def dataset(**splits):
    return Dataset("folder", SPEC, 1, splits)


def measure(data, split, **evaluation):
    return evaluate_baseline(
        data, split, Evaluation(**evaluation), normalization="range"
    )


@pytest.mark.parametrize("dark", [0, 1])
def test_training_labels_say_which_class_is_light(dark):
    data = dataset(train=[record(dark)], test=[record(dark, ((15, 12),))])
    name, report = measure(data, "test")
    assert name == "otsu"
    assert report.metrics["iou/cell"] > 0.95


@pytest.mark.parametrize("dark", [0, 1])
def test_without_training_images_the_smaller_side_is_the_cell(dark):
    name, report = measure(dataset(all=[record(dark)]), "all")
    assert name == "otsu"
    assert report.metrics["iou/cell"] > 0.9


def colored(record, *factors):
    """The same with three channels."""
    image = record["image"] * np.array(factors, np.uint8)
    return record | {"image": image}


def test_grey_images_stored_as_rgb_are_grey():
    records = [colored(record(0), 1, 1, 1), colored(record(0), 1, 0, 0)]
    data = Dataset("folder", SPEC, 3, {"all": records})
    assert has_default_baseline(data, "all", objects=True)
    found = evaluate_baselines(
        data, "all", Evaluation(), normalization="range", objects=True
    )
    assert found["otsu/iou/cell"] > 0.9
    assert found["watershed/f1@0.5"] == 1


def test_images_in_colour_have_no_default_baseline():
    data = Dataset("folder", SPEC, 3, {"all": [colored(record(0), 1, 0, 0)]})
    assert not has_default_baseline(data, "all", objects=True)


def test_places_cannot_be_learned_without_training_images():
    data = Dataset("folder", SPEC, 3, {"all": [colored(record(0), 1, 0, 0)]})
    with pytest.raises(UserError, match="training images are needed"):
        measure(data, "all")


@pytest.mark.parametrize("splits", [("train", "test"), ("test",)])
def test_a_watershed_counts_objects(splits):
    data = dataset(**{split: [record(0)] for split in splits})
    found = evaluate_watershed(data, "test")
    assert found["f1@0.5"] == 1
    assert found["panoptic_quality@0.5"] > 0.9
