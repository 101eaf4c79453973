"""COCO's categories and points: those of its own files."""

import dataclasses
import json
import time

import pytest

from segjax.data.datasets.coco.categories import (
    CATEGORIES,
    PERSON,
    category_specs,
    coco_specs,
)
from segjax.data.label_spec import InstanceClasses, LabelSpec
from segjax.errors import UserError


def test_there_are_80_categories_up_to_90():
    assert len(CATEGORIES) == len(set(CATEGORIES.values())) == 80
    assert (min(CATEGORIES), max(CATEGORIES)) == (1, 90)


def test_names_and_ids_are_those_of_the_annotation_files(shared_data):
    file = shared_data / "coco_mini/annotations/instances.json"
    listed = json.loads(file.read_text())["categories"]
    assert {one["id"]: one["name"] for one in listed} == CATEGORIES


def test_points_and_bones_of_a_person_are_those_of_the_annotation_files(shared_data):
    file = shared_data / "coco_mini/annotations/person_keypoints.json"
    (person,) = json.loads(file.read_text())["categories"]
    assert PERSON.names == tuple(person["keypoints"])
    bones = {frozenset((a - 1, b - 1)) for a, b in person["skeleton"]}
    assert {frozenset(bone) for bone in PERSON.skeleton} == bones


@pytest.mark.parametrize(
    ("num_classes", "keypoints", "names", "points"),
    [
        (
            91,
            None,
            {0: "background", 1: "person", 12: "unused 12", 90: "toothbrush"},
            0,
        ),
        (2, 17, {1: "person"}, 17),
        (2, 4, {1: "class1"}, 4),
        (81, None, {12: "stop sign", 80: "toothbrush"}, 0),
        (3, None, {1: "class1", 2: "class2"}, 0),
    ],
)
def test_classes_are_named_where_their_number_determines_them(
    num_classes, keypoints, names, points
):
    spec, objects = coco_specs(num_classes, keypoints)
    assert spec.num_classes == num_classes
    assert {i: spec.names[i] for i in names} == names
    counted = tuple(range(1, num_classes))
    expected = tuple(CATEGORIES) if num_classes == 81 else counted
    assert objects.category_ids == expected
    assert len(objects.keypoints.names if objects.keypoints else ()) == points


def test_category_ids_need_not_fit_a_byte():
    named = {i * 10**6: f"kind {i}" for i in range(1204)}
    spec, objects = category_specs(named, None, raw_ids=False)
    assert (spec.num_classes, spec.names[1204]) == (1205, "kind 1203")
    assert objects.class_of[1203 * 10**6] == 1204
    assert spec.colors[1] == spec.colors[256] != spec.colors[2]
    again = InstanceClasses(**json.loads(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    # Labels of pixels are bytes, as ever.
    with pytest.raises(UserError, match="1205 given; between 2 and 255 are possible"):
        LabelSpec(spec.names, spec.colors)


@pytest.mark.parametrize(
    ("named", "raw_ids", "sentence"),
    [
        (
            {0: "cat", 1: "dog"},
            True,
            "'cat' has the id 0, .* config.data.raw_ids=False",
        ),
        (
            {1: "cat", 10**15: "dog"},
            True,
            "need 1000000000000000 class ids, .*raw_ids=F",
        ),
        (
            dict(enumerate(map(str, range(70_000)))),
            False,
            "need 70000 class ids, .* 65535",
        ),
    ],
)
def test_categories_without_room_for_their_class_ids_are_reported(
    named, raw_ids, sentence
):
    with pytest.raises(UserError, match=sentence):
        category_specs(named, None, raw_ids=raw_ids)


def test_as_many_classes_as_are_possible_are_made_at_once():
    named = {i: f"kind {i}" for i in range(65_535)}
    start = time.process_time()
    assert category_specs(named, None, raw_ids=False)[0].num_classes == 65_536
    assert time.process_time() - start < 5


def test_weights_of_one_class_have_no_categories():
    with pytest.raises(UserError, match="classes: 1 given; between 2 and 65536"):
        coco_specs(1)


def test_a_category_named_background_is_a_class_of_its_own():
    spec, _ = category_specs({0: "background", 1: "cell"}, None, raw_ids=False)
    assert spec.names == ("no object", "background", "cell")
