"""COCO's categories and points: those of its own files."""

import json

import pytest

from segjax.data.coco_categories import CATEGORIES, PERSON, coco_specs


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
def test_classes_are_named_where_their_number_tells_them(
    num_classes, keypoints, names, points
):
    spec, objects = coco_specs(num_classes, keypoints)
    assert spec.num_classes == num_classes
    assert {i: spec.names[i] for i in names} == names
    counted = tuple(range(1, num_classes))
    expected = tuple(CATEGORIES) if num_classes == 81 else counted
    assert objects.category_ids == expected
    assert len(objects.keypoints.names if objects.keypoints else ()) == points
