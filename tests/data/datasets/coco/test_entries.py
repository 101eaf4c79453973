"""Lists of images and categories: ids and sizes of every type, and what is left out."""

import json
import logging

import pytest

from segjax.data.datasets.coco.annotation_files import read_coco
from segjax.errors import UserError

IMAGE = {"id": 1, "file_name": "a.png", "height": 10, "width": 20}
CATEGORY = {"id": 7, "name": "cat"}
ANNOTATION = {
    "image_id": 1,
    "category_id": 7,
    "bbox": [2, 3, 5, 4],
    "segmentation": [[2, 3, 7, 3, 7, 7, 2, 7]],
}
ABSENT = "(absent)"
HUGE = 10**400


def changed(entry, changes):
    return {k: v for k, v in (entry | changes).items() if v is not ABSENT}


@pytest.fixture
def write(tmp_path):
    def writing(**lists):
        content = {
            "images": [IMAGE],
            "categories": [CATEGORY],
            "annotations": [ANNOTATION],
        }
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content | lists))
        return path

    return writing


WRONG_IMAGES = [
    *({"id": v} for v in (None, [1], {}, True, 1.5, float("nan"), "", ABSENT)),
    *({"file_name": v} for v in (None, 7, [], "", True, ABSENT)),
    *(
        {"height": v}
        for v in (None, "10", 10.5, 0, -10, True, [10], HUGE, 1e300, ABSENT)
    ),
    {"height": float("inf")},
    {"height": 10**9, "width": 10**9},
    {"height": 2**31, "width": 2},
]


@pytest.mark.parametrize("changes", WRONG_IMAGES, ids=lambda c: str(c)[:30])
def test_a_wrong_image_is_reported_and_can_be_left_out(write, changes):
    first = changed(IMAGE | {"id": 2, "file_name": "b.png"}, changes)
    path = write(images=[first, IMAGE])
    with pytest.raises(
        UserError, match=r"a\.json, image (2|.*1 of the list): it.*skip_inv"
    ):
        read_coco(path)
    found = read_coco(path, skip_invalid=True)
    assert [image.file_name for image in found.images] == ["a.png"]
    kept_name = isinstance(first.get("file_name"), str)
    assert found.files_left_out == ((first["file_name"],) if kept_name else ())


@pytest.mark.parametrize("number", [10**20, 2**63, -(2**63) - 1, HUGE])
def test_an_id_that_int64_does_not_hold_is_reported_and_can_be_left_out(write, number):
    path = write(images=[IMAGE | {"id": number, "file_name": "b.png"}, IMAGE])
    with pytest.raises(UserError, match=r"its id is .* at most 64 bits .*skip_invalid"):
        read_coco(path)
    found = read_coco(path, skip_invalid=True)
    assert [image.file_name for image in found.images] == ["a.png"]
    largest = 2**63 - 1
    path = write(
        images=[IMAGE | {"id": largest}],
        annotations=[ANNOTATION | {"image_id": largest}],
    )
    assert read_coco(path).images[0].image_id == largest


@pytest.mark.parametrize("entry", [None, 7, "a.png", [], True])
@pytest.mark.parametrize("key", ["images", "categories"])
def test_an_entry_that_is_not_an_object_is_named_by_its_place(write, key, entry):
    good = {"images": IMAGE, "categories": CATEGORY}[key]
    path = write(**{key: [good, entry]})
    with pytest.raises(UserError, match=r"at place 2 of the list: it is .* an object"):
        read_coco(path)
    assert len(read_coco(path, skip_invalid=True).images) == 1


WRONG_CATEGORIES = [
    *({"id": v} for v in (None, -1, 1.5, "cat", True, [], 2**63, HUGE, ABSENT)),
    *({"name": v} for v in (None, "", [], {}, True, 1.5, ABSENT)),
]


@pytest.mark.parametrize("changes", WRONG_CATEGORIES, ids=lambda c: str(c)[:30])
def test_a_wrong_category_is_reported_and_can_be_left_out(write, changes):
    path = write(categories=[changed({"id": 3, "name": "dog"}, changes), CATEGORY])
    with pytest.raises(UserError, match=r"a\.json, category .*: its .*belongs"):
        read_coco(path)
    assert read_coco(path, skip_invalid=True).categories == {7: "cat"}


def test_ids_are_equal_as_numbers_and_as_text(write):
    for image, annotation in ((1, "1"), ("1", 1), ("1", "1"), (1.0, 1), ("01", "1")):
        path = write(
            images=[IMAGE | {"id": image}],
            annotations=[ANNOTATION | {"image_id": annotation, "category_id": "7"}],
            categories=[CATEGORY | {"id": 7.0}],
        )
        (found,) = read_coco(path).images
        assert (found.image_id, found.category_ids.tolist()) == (1, [7])
    with pytest.raises(UserError, match="two images of the id 1"):
        read_coco(write(images=[IMAGE, IMAGE | {"id": "01"}]), skip_invalid=True)


def test_the_image_and_the_category_of_id_0_are_found(write):
    path = write(
        images=[IMAGE | {"id": "0"}],
        categories=[{"id": 0, "name": "cat"}],
        annotations=[ANNOTATION | {"image_id": 0, "category_id": 0}],
    )
    (found,) = read_coco(path).images
    assert (found.image_id, found.category_ids.tolist()) == (0, [0])


def test_ids_that_are_no_numbers_number_the_images_in_their_order(write, caplog):
    path = write(
        images=[
            IMAGE | {"id": "scan_b"},
            IMAGE | {"id": 9, "file_name": "b.png"},
            IMAGE | {"id": "scan_a", "file_name": "c.png"},
        ],
        annotations=[ANNOTATION | {"image_id": "scan_a"}],
    )
    with caplog.at_level(logging.INFO, logger="segjax"):
        found = read_coco(path).images
    assert [(i.image_id, i.file_name) for i in found] == [
        (1, "a.png"),
        (2, "b.png"),
        (3, "c.png"),
    ]
    assert [len(image.boxes) for image in found] == [0, 0, 1]
    assert (
        "the image id 'scan_b' is not a number, so its images are numb" in caplog.text
    )


LISTS = {
    "two_ids": (
        {"categories": [CATEGORY, CATEGORY | {"name": "dog"}]},
        "two categories have the id 7, 'cat' and 'dog'",
    ),
    "two_names": (
        {"categories": [CATEGORY, CATEGORY | {"id": 8}]},
        "categories 7 and 8 are both named 'cat'. Rename one",
    ),
    "two_images": ({"images": [IMAGE, IMAGE]}, "two images of the id 1"),
    "no_images": ({"images": []}, "lists no image"),
    "no_categories": ({"categories": []}, "lists no category"),
    "all_images_wrong": ({"images": [None]}, "1 of 1 images are wrong.*none is left"),
    "all_wrong": (
        {"annotations": [None, ANNOTATION | {"bbox": None}]},
        "2 of 2 annotations are wrong and left out, so none is left. The first: .* place 1",
    ),
    "no_list": ({"images": {}}, "not an annotation file.*lists of images, ann"),
}


@pytest.mark.parametrize(("lists", "sentence"), LISTS.values(), ids=LISTS)
def test_what_cannot_be_left_out_is_reported(write, lists, sentence):
    with pytest.raises(UserError, match=sentence):
        read_coco(write(**lists), skip_invalid=True)


BYTES = {
    "bom": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("encode", BYTES.values(), ids=BYTES)
def test_files_of_editors_on_windows_are_read(write, encode):
    path = write(categories=[CATEGORY | {"name": "Katze ä"}])
    path.write_bytes(
        encode(json.dumps(json.loads(path.read_text()), ensure_ascii=False))
    )
    assert read_coco(path).categories == {7: "Katze ä"}


def test_a_file_nested_beyond_pythons_depth_is_reported(write):
    path = write()
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(UserError, match=r"a\.json is not JSON \(.* too deeply"):
        read_coco(path)


def test_annotations_of_deep_and_long_values_are_reported_briefly(write):
    deep = json.loads("[" * 900 + "]" * 900)
    for value in (
        deep,
        "x" * 10**6,
        list(range(10**5)),
        {str(i): i for i in range(999)},
    ):
        for key in ANNOTATION:
            with pytest.raises(UserError) as caught:
                read_coco(write(annotations=[ANNOTATION | {key: value}]))
            assert len(str(caught.value)) < 600


KEYPOINTS = [
    *(
        {"keypoints": v}
        for v in ("nose", 7, {"a": 1}, [None], ["a", 7], ["a", "a"], [[]])
    ),
    *({"skeleton": v} for v in ("ab", 7, [1, 2], [[1]], [[1, 2, 3]], [[1, None]])),
    *({"skeleton": [[1, v]]} for v in ("2", 3, 0, True, 1.5, HUGE)),
]


@pytest.mark.parametrize("changes", KEYPOINTS, ids=lambda c: str(c)[:30])
def test_keypoints_of_another_form_are_reported(write, changes):
    points = {"keypoints": ["head", "hip"], "skeleton": [[1, 2]]}
    path = write(categories=[CATEGORY | points])
    assert read_coco(path, keypoints=True).keypoints.skeleton == ((0, 1),)
    path = write(categories=[CATEGORY | points | changes])
    with pytest.raises(UserError, match=r"a\.json: "):
        read_coco(path, keypoints=True)
