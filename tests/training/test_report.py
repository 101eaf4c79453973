"""The facts of a report, gathered from data and run."""

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.training.report import data_tables, environment

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


def test_the_environment_names_versions_and_command():
    found = environment()
    assert found["numpy"] == np.__version__
    assert "pytest" in found["Command line"]
