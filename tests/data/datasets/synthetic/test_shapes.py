"""The rendered scenes: the same everywhere, balanced enough, and not separable by colour."""

import hashlib
import time

import numpy as np
import pytest

from segjax.data import DATASETS
from segjax.data.datasets.synthetic.shape_scenes import KINDS, render_scene
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

TINY = {"size": 64, "train": 4, "validation": 2, "test": 2}


@pytest.fixture(scope="module")
def scenes():
    return [render_scene((5, i), 96) for i in range(40)]


def test_a_scene_has_the_same_bits_on_every_machine():
    """A rendering that changes needs new values here and a new VERSION of the builder."""
    scene = render_scene((1, 2), 64)
    digests = [hashlib.sha256(a.tobytes()).hexdigest()[:16] for a in scene]
    assert digests == ["4f93bf0a013c086a", "ef51c70337295c98"]


def test_shapes_types_and_classes(scenes):
    for image, label in scenes:
        assert image.shape == (96, 96, 3)
        assert label.shape == (96, 96)
        assert image.dtype == label.dtype == np.uint8
        assert set(np.unique(label)) <= {*range(len(KINDS)), IGNORE_LABEL}


def test_every_class_is_in_nearly_every_scene_and_outlines_are_ignored(scenes):
    label = np.stack([scene.label for scene in scenes])
    for kind in range(len(KINDS)):
        here = label == kind
        assert here.any((1, 2)).mean() > 0.9
        assert 0.03 < here.mean() < 0.75
    assert 0.03 < (label == IGNORE_LABEL).mean() < 0.12
    for a, b in ((label[:, 1:], label[:, :-1]), (label[:, :, 1:], label[:, :, :-1])):
        touching = (a != b) & (a != IGNORE_LABEL) & (b != IGNORE_LABEL)
        assert touching.mean() < 1e-3


def test_the_colour_of_a_pixel_is_not_enough(scenes):
    """The best guess from the colour in 8 x 8 x 8 bins, made on half of the scenes."""
    code = [(s.image // 32).astype(int) @ (64, 8, 1) for s in scenes]
    table = np.zeros((512, len(KINDS)))
    for scene, bins in zip(scenes[:20], code[:20], strict=True):
        counts = scene.label != IGNORE_LABEL
        np.add.at(table, (bins[counts], scene.label[counts]), 1)
    table /= table.sum(0)  # Every class weighs the same.
    right = np.zeros((2, len(KINDS)))
    for scene, bins in zip(scenes[20:], code[20:], strict=True):
        guess = table.argmax(1)[bins]
        for kind in range(len(KINDS)):
            here = scene.label == kind
            right[:, kind] += ((guess == kind) & here).sum(), here.sum()
    assert 0.25 < (right[0] / right[1]).mean() < 0.6


def test_the_data_set_is_rendered_at_once_and_once(tmp_path):
    start = time.process_time()
    dataset = DATASETS["shapes"](cache_dir=str(tmp_path), **TINY)
    assert time.process_time() - start < 5
    assert dataset.channels == 3
    assert dataset.label_spec.names == KINDS
    assert {k: len(v) for k, v in dataset.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 2,
    }
    names = [r["name"] for split in dataset.splits.values() for r in split]
    assert len(set(names)) == 8
    record = dataset.splits["validation"][1]
    rendered = render_scene((0, 1, 1), 64)
    assert record["name"] == "validation/0001"
    np.testing.assert_array_equal(record["image"], rendered.image)
    np.testing.assert_array_equal(record["label"], rendered.label)
    written = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*array_record*"))
    DATASETS["shapes"](cache_dir=str(tmp_path), **TINY)
    assert written == sorted(
        p.stat().st_mtime_ns for p in tmp_path.rglob("*array_record*")
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 8}, "config.data.size is 8; it must be an integer of at least 16"),
        ({"train": 0}, "config.data.train is 0; it must be an integer of at least 1"),
        ({"seed": -1}, "config.data.seed is -1"),
        ({"test": 1.5}, "config.data.test is 1.5"),
    ],
)
def test_illegal_numbers_are_named(tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        DATASETS["shapes"](cache_dir=str(tmp_path), **arguments)
    assert not list(tmp_path.iterdir())
