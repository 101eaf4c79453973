"""One annotation: every field of every type is read as it is meant, or reported in a sentence."""

import json

import numpy as np
import pytest

from segjax.data.datasets.coco.annotation_files import read_coco
from segjax.errors import UserError
from segjax.rle import decode

POINTS = ["nose", "left_eye", "right_eye"]
SQUARE = [2, 3, 7, 3, 7, 7, 2, 7]
GOOD = {
    "id": 11,
    "image_id": 4,
    "category_id": 7,
    "bbox": [2, 3, 5, 4],
    "area": 20,
    "iscrowd": 0,
    "segmentation": [SQUARE],
    "keypoints": [3, 4, 2] * 3,
}
ABSENT = "(absent)"


@pytest.fixture
def read(tmp_path):
    """Reads a file with a changed annotation, and one that is right after it."""

    def reading(skip_invalid=False, **changes):
        changed = {k: v for k, v in (GOOD | changes).items() if v is not ABSENT}
        content = {
            "images": [{"id": 4, "file_name": "a.png", "height": 10, "width": 20}],
            "categories": [{"id": 7, "name": "cat", "keypoints": POINTS}],
            "annotations": [changed, GOOD | {"id": 12}],
        }
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content))
        return read_coco(path, keypoints=True, skip_invalid=skip_invalid)

    return reading


HUGE, NAN, INF = 10**400, float("nan"), float("inf")
NOT_NUMBERS = [None, "3", True, [3], {"a": 3}, NAN, INF, -INF, HUGE, 1e300]
DEEP = json.loads("[" * 400 + "]" * 400)


def with_one(values, wrong):
    """The list with its second value exchanged."""
    return [values[0], wrong, *values[2:]]


WRONG = {
    "image_id": [*NOT_NUMBERS, "a", 4.5, 5, ABSENT, "", DEEP],
    "category_id": [*NOT_NUMBERS, "cat", 7.5, -7, ABSENT, DEEP],
    "iscrowd": ["0", "1", "yes", 2, -1, 0.5, NAN, [0], {}, HUGE],
    "area": ["20", [20], {}, True, False, INF, -1, 1e300, HUGE, DEEP],
    "bbox": [
        *(None, "2345", 7, {}, [], [2, 3, 5], [2, 3, 5, 4, 1], ABSENT, [[2, 3, 5, 4]]),
        *([1, v, 5, 4] for v in NOT_NUMBERS),
        DEEP,
    ],
    "segmentation": [
        *(None, [], {}, "", "abc", 7, True, ABSENT, [[]], [None], ["abc"], [7, None]),
        *([with_one(SQUARE, v)] for v in NOT_NUMBERS),
        *([SQUARE, with_one(SQUARE, v)] for v in NOT_NUMBERS),
        *(with_one(SQUARE, v) for v in NOT_NUMBERS),
        *([SQUARE, [2, 3, 7, 3]], [[2, 3, 7, 3, 7]], [[[2, 3], [7, 3]]], [[[2], [3]]]),
        *([[[2, 3], [7, 3], [7, "7"]]], [[[2, 3], 7, 3]], [[{"x": 2}] * 6], [[[[2]]]]),
        *([with_one(SQUARE, 201)], [with_one(SQUARE, -201)], DEEP, [DEEP]),
        *({"size": s, "counts": [23, 4, 173]} for s in (None, 10, "10", [], [10])),
        *(
            {"size": s, "counts": [23, 4, 173]}
            for s in ([20, 10], [10, "20"], [10, HUGE])
        ),
        {"size": [10, NAN], "counts": [200]},
        {"counts": [23, 4, 173]},
        *(
            {"size": [10, 20], "counts": c}
            for c in (None, 7, [], {}, [None], ["23", 177])
        ),
        *(
            {"size": [10, 20], "counts": c}
            for c in ([200], [23, 4], [-1, 4, 197], [[200]])
        ),
        *({"size": [10, 20], "counts": c} for c in ([NAN, 4, 173], [HUGE, 4], DEEP)),
        *(
            {"size": [10, 20], "counts": c}
            for c in ("", "~~", "\u20ac", "ooooooooooooooooo")
        ),
        {"size": [10, 20], "counts": [2**62, 2**62, 2**62, 2**62 + 200]},
        {"size": [10, 20]},
    ],
    "keypoints": [
        *("abc", 7, {}, [], [3, 4, 2] * 2, [[3, 4, 2]] * 3, [[3, 4, 2] * 3], DEEP),
        *(with_one([3, 4, 2] * 3, v) for v in NOT_NUMBERS),
        *([3, 4, v] * 3 for v in (3, -1, 0.5)),
    ],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]


@pytest.mark.parametrize(
    ("key", "value"), CASES, ids=[f"{key}-{n}" for n, (key, _) in enumerate(CASES)]
)
def test_a_wrong_field_is_reported_and_can_be_left_out(read, key, value):
    with pytest.raises(UserError) as caught:
        read(**{key: value})
    sentence = str(caught.value)
    assert "a.json, annotation 11: " in sentence
    assert "leave such annotations out by config.data.skip_invalid=True." in sentence
    assert len(sentence) < 500
    kept = read(skip_invalid=True, **{key: value})
    assert kept.num_invalid == 1
    assert [len(image.boxes) for image in kept.images] == [1]


@pytest.mark.parametrize("value", [None, 7, "x", [], [GOOD], True, DEEP], ids=repr)
def test_what_is_not_an_object_of_json_is_named_by_its_place(tmp_path, value):
    content = {
        "images": [{"id": 4, "file_name": "a.png", "height": 10, "width": 20}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [GOOD, value],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotation at place 2 of the list: it is "):
        read_coco(path)
    assert read_coco(path, skip_invalid=True).num_invalid == 1


MEANT = {
    "whole_floats": {"image_id": 4.0, "category_id": 7.0, "iscrowd": 0.0, "area": 20.0},
    "text_ids": {"image_id": "4", "category_id": "7"},
    "bool_crowd": {"iscrowd": False},
    "no_crowd": {"iscrowd": ABSENT},
    "null_crowd": {"iscrowd": None},
    "flat": {"segmentation": SQUARE},
    "points": {"segmentation": [[[2, 3], [7, 3], [7, 7], [2, 7]]]},
    "floats": {"segmentation": [[float(v) for v in SQUARE]]},
    "run_lengths": {
        "segmentation": {"size": [10.0, 20.0], "counts": [23.0, *[4, 6] * 4, 4, 133]}
    },
    "no_id": {"id": ABSENT},
    "id_of_another_object": {"id": 12, "area": 20.0, "bbox": [2.0, 3, 5, 4.001]},
}


@pytest.mark.parametrize("changes", MEANT.values(), ids=MEANT)
def test_what_is_beyond_doubt_is_read(read, changes):
    (image,) = read(**changes).images
    assert image.image_id == 4
    np.testing.assert_allclose(image.boxes[0], [3, 2, 7, 7], atol=0.01)
    assert image.category_ids[0] == 7
    assert not image.crowd[0]
    assert image.areas[0] == 20
    mask = decode(image.masks()[0])
    assert mask[3:7, 2:7].all()
    assert mask.sum() == 20


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_a_crowd_is_one_in_every_way_to_write_it(read, value):
    (image,) = read(iscrowd=value).images
    assert image.crowd.tolist() == [True, False]


@pytest.mark.parametrize("value", [None, ABSENT, NAN], ids=["null", "absent", "nan"])
def test_an_area_may_be_left_open(read, value):
    (image,) = read(area=value).images
    assert np.isnan(image.areas[0])


def test_an_outline_may_overhang_by_the_size_of_a_larger_object(read):
    far = [-150, 3, 190, 3, 190, 7, -150, 7]
    (image,) = read(segmentation=[far]).images
    mask = decode(image.masks()[0])
    assert mask[3:7].all()
    assert mask.sum() == 80


def test_an_annotation_that_is_listed_twice_is_reported(read):
    with pytest.raises(UserError, match=r"annotation 12: it is listed twice\."):
        read(id=12)
    assert read(id=12, skip_invalid=True).num_invalid == 1
