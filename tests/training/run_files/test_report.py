"""The facts of a report, gathered from data and run."""

import sys

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import InstanceClasses, LabelSpec
from segjax.training.run_files.report import data_tables, environment

SPEC = LabelSpec(("dark", "light"), ((1, 2, 3), (255, 255, 255)))


def record(height, labelled=True):
    image = np.zeros((height, 9, 1), np.uint16)
    label = np.zeros((height, 9), np.uint8)
    label[0], label[1] = 1, 255
    return {"image": image, "name": "x"} | ({"label": label} if labelled else {})


def test_splits_and_fractions_are_those_of_the_records():
    splits = {
        "train": [record(3), record(5)],
        "validation": [],
        "test": [record(4, labelled=False)],
    }
    sizes, classes = data_tables(Dataset("made up", SPEC, 1, splits))
    assert sizes.rows == [
        ("train", 2, "3 x 9 to 5 x 9", "1 x uint16"),
        ("validation", 0, "-", "-"),
        ("test", 1, "4 x 9", "1 x uint16"),
    ]
    assert list(classes.header) == ["class", "train"]
    dark, light = classes.rows
    assert np.allclose((dark[1], light[1]), (4 / 6, 2 / 6))
    assert classes.colors == SPEC.colors


def test_objects_are_counted_without_those_of_crowds():
    found = {"classes": np.array([1, 1, 1]), "crowd": np.array([False, True, False])}
    image = {"image": np.zeros((3, 3, 3), np.uint8), "name": "x"}
    classes = InstanceClasses(("background", "cell"), ((0, 0, 0),) * 2)
    splits = {"train": [image | found] * 2}
    dataset = Dataset("made up", classes, 3, splits, InstanceSpec((1,)))
    (row,) = data_tables(dataset)[1].rows
    assert row == ("cell", 4)
    assert isinstance(row[1], int)


def test_the_environment_names_versions_and_command():
    found = environment()
    assert found["numpy"] == np.__version__
    assert sys.orig_argv[-1] in found["Command line"]
