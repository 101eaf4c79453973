"""Rendered objects: the same everywhere, visible enough, and written as they were rendered."""

import hashlib

import numpy as np
import pytest

from segjax.data import DATASETS
from segjax.data.datasets.synthetic.instance_scenes import LEAST_VISIBLE, render_shapes
from segjax.data.datasets.synthetic.instance_shapes import JOINT_SPEC
from segjax.data.datasets.synthetic.stick_figures import JOINTS, render_figures
from segjax.errors import UserError
from segjax.rle import decode

FEW = {"size": 64, "train": 3, "validation": 2, "test": 1}


@pytest.fixture(scope="module")
def scenes():
    return [render_shapes((4, i), 96) for i in range(30)]


def digest(scene):
    parts = [a for a in scene if a is not None]
    return [hashlib.sha256(a.tobytes()).hexdigest()[:12] for a in parts]


def test_scenes_have_the_same_bits_on_every_machine():
    """A rendering that changes needs new values here and a new VERSION of the builder."""
    assert digest(render_shapes((1, 2), 64)) == [
        "bc1fc5707c2d",
        "09cde08eb270",
        "7c039a3f7e41",
    ]
    assert digest(render_figures((1, 2), 64)) == [
        "4dc39d98e0fc",
        "a18f8ebd41f6",
        "67abdd721024",
        "b789c2670fc4",
    ]


def test_every_kind_is_rendered_one_to_five_at_a_time(scenes):
    counts = [len(scene.classes) for scene in scenes]
    assert set(counts) == {1, 2, 3, 4, 5}
    kinds = np.concatenate([scene.classes for scene in scenes])
    assert np.bincount(kinds, minlength=4)[1:].min() > 15
    assert {
        k for s in range(9) for k in render_shapes((s,), 48, num_kinds=1).classes
    } == {1}


def test_masks_do_not_share_pixels_and_none_is_hidden(scenes):
    for image, masks, classes, _ in scenes:
        assert image.dtype == np.uint8
        assert masks.shape == (len(classes), *image.shape[:2])
        assert masks.sum(0).max(initial=0) <= 1
        assert masks.sum((1, 2)).min() >= 12 * LEAST_VISIBLE


def test_visible_joints_lie_on_their_figure_and_left_is_at_the_right():
    seen = 0
    names = {name: i for i, name in enumerate(JOINTS)}
    for number in range(12):
        _, masks, classes, keypoints = render_figures((number,), 96)
        assert set(classes.tolist()) == {1}
        for mask, joints in zip(masks, keypoints, strict=True):
            visible = joints[joints[:, 2] == 2]
            assert mask[tuple(visible[:, :2].astype(int).T)].all()
            seen += len(visible)
            elbows = joints[[names["left_elbow"], names["right_elbow"]]]
            if (elbows[:, 2] > 0).all():
                assert elbows[0, 1] > elbows[1, 1]
            assert (joints[joints[:, 2] == 0] == 0).all()
    assert seen > 100


def test_the_data_sets_hold_what_was_rendered(cache_dir):
    shapes = DATASETS["instance_shapes"](cache_dir=cache_dir, **FEW)
    assert shapes.label_spec.names == ("background", "disc", "square", "triangle")
    assert shapes.instances.category_ids == (1, 2, 3)
    assert {k: len(v) for k, v in shapes.splits.items()} == {
        "train": 3,
        "validation": 2,
        "test": 1,
    }
    record, scene = shapes.splits["validation"][1], render_shapes((0, 1, 1), 64)
    np.testing.assert_array_equal(record["image"], scene.image)
    np.testing.assert_array_equal([decode(r) for r in record["masks"]], scene.masks)
    np.testing.assert_array_equal(record["classes"], scene.classes)
    assert (record["name"], record["image_id"]) == ("validation/0001", 5)
    for box, mask in zip(record["boxes"], scene.masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [
            rows.min(),
            columns.min(),
            rows.max() + 1,
            columns.max() + 1,
        ]


def test_stick_figures_have_joints_that_change_places_in_a_mirror(cache_dir):
    figures = DATASETS["stick_figures"](cache_dir=cache_dir, **FEW)
    record, scene = figures.splits["train"][0], render_figures((0, 0, 0), 64)
    np.testing.assert_array_equal(record["keypoints"], scene.keypoints)
    assert figures.instances.keypoints == JOINT_SPEC
    for i, j in enumerate(JOINT_SPEC.swap):
        assert JOINT_SPEC.swap[j] == i
        assert ("left" in JOINTS[i]) == ("right" in JOINTS[j])


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "instance_shapes",
            {"size": 8},
            "size is 8; it must be an integer of at least 32",
        ),
        ("instance_shapes", {"num_kinds": 4}, "num_kinds is 4; .* from 1 to 3"),
        (
            "stick_figures",
            {"max_instances": 0},
            "max_instances is 0; it must be an integer from 1 to 100",
        ),
        ("stick_figures", {"seed": 0.5}, r"seed is 0\.5"),
    ],
)
def test_illegal_numbers_are_named(tmp_path, name, arguments, sentence):
    with pytest.raises(UserError, match=f"config.data.{sentence}"):
        DATASETS[name](cache_dir=str(tmp_path), **arguments)
    assert not list(tmp_path.iterdir())
