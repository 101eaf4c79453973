"""COCO's files: real ones read as they are meant, and wrong ones reported in a sentence."""

import gc
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.data import DATASETS
from segjax.data.instance.batches import instance_batches
from segjax.errors import UserError
from segjax.rle import boxes_of, decode, encode, to_string

REAL = {"train_images": "images", "validation": None, "allow_unlisted": True}
MADE = {"train": "a.json", "train_images": "images", "validation": None}
POINTS = ("nose", "left_eye", "right_eye")


@pytest.fixture(scope="module")
def real(shared_data):
    return DATASETS["coco"](
        data_root=str(shared_data / "coco_mini"),
        train="annotations/instances.json",
        validation_fraction=0.2,
        **REAL,
    )


def test_real_images_have_their_objects(real, shared_data):
    path = shared_data / "coco_mini/annotations/instances.json"
    listed = json.loads(path.read_text())
    assert {k: len(v) for k, v in real.splits.items()} == {"train": 28, "validation": 7}
    assert real.label_spec.num_classes == 81
    assert real.instances.category_ids[-1] == 90
    counts = sum(split.facts.counts.sum() for split in real.splits.values())
    assert counts == len(listed["annotations"]) == 340
    record = next(r for r in real.splits["train"] if r["name"] == "000000000074")
    mine = [a for a in listed["annotations"] if a["image_id"] == 74]
    names = {c["id"]: c["name"] for c in listed["categories"]}
    assert record["image"].shape == (426, 640, 3)
    for i, annotation in enumerate(mine):
        x, y, width, height = annotation["bbox"]
        np.testing.assert_allclose(
            record["boxes"][i], [y, x, y + height, x + width], rtol=1e-5
        )
        name = real.label_spec.names[record["classes"][i]]
        assert name == names[annotation["category_id"]]


def test_rendered_masks_have_the_annotated_areas_and_boxes(real):
    off, crowds = 0, 0
    for record in real.splits["train"]:
        areas = np.array([rle.area for rle in record["masks"]])
        off += (abs(areas - record["areas"]) > np.maximum(0.08 * areas, 15)).sum()
        crowds += record["crowd"].sum()
        tight = boxes_of(record["masks"])
        assert np.median(abs(tight - record["boxes"])) < 0.6
    assert off <= 3
    assert crowds == 3


def test_real_images_are_batched_in_buckets(real):
    with instance_batches(
        real.splits["train"],
        seed=0,
        batch_size=1,
        buckets=((160, 224), (224, 160)),
        max_objects=40,
        num_threads=0,
    ) as batches:
        batch = next(batches)
    assert batch["image"].shape[1:3] in ((160, 224), (224, 160))
    kept = batch["classes"] > 0
    assert kept.any()
    assert batch["masks"][kept].mean((1, 2)).min() > 0.05


def test_raw_ids_are_those_of_weights_with_91_classes(shared_data):
    raw = DATASETS["coco"](
        data_root=str(shared_data / "coco_mini"),
        train="annotations/instances.json",
        raw_ids=True,
        **REAL,
    )
    assert raw.label_spec.num_classes == 91
    assert raw.label_spec.names[90] == "toothbrush"
    assert raw.label_spec.names[12] == "unused 12"


def test_persons_have_seventeen_points_in_the_middle_of_their_pixels(shared_data):
    persons = DATASETS["coco"](
        data_root=str(shared_data / "coco_mini"),
        train="annotations/person_keypoints.json",
        keypoints=True,
        **REAL,
    )
    spec = persons.instances.keypoints
    assert spec.names[0] == "nose"
    assert spec.swap[:3] == (0, 2, 1)
    assert spec.sigmas[0] == 0.026
    path = shared_data / "coco_mini/annotations/person_keypoints.json"
    first = json.loads(path.read_text())["annotations"][0]
    record = next(
        r for r in persons.splits["train"] if r["image_id"] == first["image_id"]
    )
    x, y, visibility = np.array(first["keypoints"], float).reshape(17, 3).T
    seen = visibility > 0
    found = record["keypoints"][0]
    np.testing.assert_array_equal(
        found[seen], np.stack([y, x, visibility], 1)[seen] + [0.5, 0.5, 0]
    )
    assert not found[~seen].any()


@pytest.fixture
def made(tmp_path):
    """A folder of two images; returns what writes the file.

    The first annotation is changed as asked for. One of the other image is added where
    `also` says so.
    """
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / "images" / name)
    content = {
        "images": [
            {"id": i, "file_name": name, "height": 10, "width": 20}
            for i, name in ((4, "a.png"), (2, "b.png"))
        ],
        "categories": [
            {"id": 7, "name": "cat", "keypoints": POINTS, "skeleton": [[1, 2]]},
            {"id": 3, "name": "dog", "keypoints": POINTS, "skeleton": [[1, 2]]},
        ],
        "annotations": [
            {
                "id": 11,
                "image_id": 4,
                "category_id": 7,
                "bbox": [2, 3, 5, 4],
                "segmentation": [[2, 3, 7, 3, 7, 7, 2, 7]],
                "keypoints": [3, 4, 2] * 3,
            }
        ],
    }

    def write(also=False, **changes):
        first = content["annotations"][0]
        annotation = first | changes
        annotation = {k: v for k, v in annotation.items() if v is not None}
        other = [first | {"id": 12, "image_id": 2}] if also else []
        whole = content | {"annotations": [annotation, *other]}
        (tmp_path / "a.json").write_text(json.dumps(whole))
        return str(tmp_path)

    return write


def test_a_small_file_is_read_with_its_empty_image(made):
    data = DATASETS["coco"](data_root=made(), keypoints=True, **MADE)
    empty, full = data.splits["train"]
    assert data.label_spec.names == ("background", "dog", "cat")
    assert data.instances.category_ids == (3, 7)
    assert (empty["name"], len(empty["boxes"]), len(empty["masks"])) == ("b", 0, 0)
    assert empty["keypoints"].shape == (0, 3, 3)
    assert full["classes"].tolist() == [2]
    assert full["boxes"].tolist() == [[3, 2, 7, 7]]
    assert full["areas"].tolist() == [20]
    assert full["keypoints"][0].tolist() == [[4.5, 3.5, 2]] * 3


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_are_read_as_lists_and_as_text(made, compressed):
    mask = np.zeros((10, 20), bool)
    mask[3:7, 2:7] = True
    encoded = encode(mask)
    counts = to_string(encoded) if compressed else encoded.counts.tolist()
    segmentation = {"size": [10, 20], "counts": counts}
    data = DATASETS["coco"](
        data_root=made(also=True, segmentation=segmentation, iscrowd=1), **MADE
    )
    record = data.splits["train"][1]
    np.testing.assert_array_equal(decode(record["masks"][0]), mask)
    assert record["crowd"].tolist() == [True]


WRONG = {
    "category": ({"category_id": 9}, "category_id is 9.*not among the categories 3, 7"),
    "image": ({"image_id": 5}, "image_id is 5, which is not among the images"),
    "no_area": ({"bbox": [2, 3, 0, 4]}, r"box \[2, 3, 0, 4\].*has no area"),
    "outside": ({"bbox": [2, 3, 25, 4]}, "reaches outside of a.png, which is 20 wide"),
    "beside": ({"bbox": [20, 3, 1, 4]}, "reaches outside of a.png"),
    "box": ({"bbox": [2, 3, 5]}, r"bbox is \[2, 3, 5\], where"),
    "two_points": ({"segmentation": [[2, 3, 7, 3]]}, "a polygon of it has 2 points"),
    "odd": ({"segmentation": [[2, 3, 7, 3, 7, 7, 2]]}, "a polygon of it has 7 numbers"),
    "none": ({"segmentation": None}, "no segmentation; .* config.data.masks=False"),
    "other_size": (
        {"segmentation": {"size": [20, 10], "counts": [200]}},
        "those of 20 x 10 pixels, but its image is 10 high and 20 wide",
    ),
    "other_sum": (
        {"segmentation": {"size": [10, 20], "counts": [150]}},
        "add up to 150 pixels, but an image of 10 x 20 has 200",
    ),
    "points": ({"keypoints": [3, 4, 2] * 2}, "6 numbers of keypoints.*3 points .* 9"),
}


@pytest.mark.parametrize(("change", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_annotation_is_reported(made, change, sentence, caplog):
    folder = made(also=True, **change)
    with pytest.raises(UserError, match=rf"a\.json, annotation 11: .*{sentence}"):
        DATASETS["coco"](data_root=folder, keypoints=True, **MADE)
    with caplog.at_level(logging.WARNING, logger="segjax"):
        data = DATASETS["coco"](
            data_root=folder, keypoints=True, skip_invalid=True, **MADE
        )
    assert data.splits["train"].facts.counts.tolist() == [1, 0]
    assert "1 of 2 annotations are wrong and left out" in caplog.text


def test_without_masks_objects_fill_their_boxes(made):
    data = DATASETS["coco"](data_root=made(segmentation=None), masks=False, **MADE)
    mask = decode(data.splits["train"][1]["masks"][0])
    assert mask[3:7, 2:7].all()
    assert mask.sum() == 20


def test_images_that_are_missing_or_not_listed_are_reported(made, tmp_path):
    folder = made()
    (tmp_path / "images/a.png").rename(tmp_path / "images/c.png")
    with pytest.raises(UserError, match=r"lacks 1 of the 2 images .* listed: a\.png"):
        DATASETS["coco"](data_root=folder, **MADE)
    Image.new("RGB", (20, 10)).save(tmp_path / "images/a.png")
    with pytest.raises(
        UserError, match=r"1 images that no .* lists: c\.png.*allow_unli"
    ):
        DATASETS["coco"](data_root=folder, **MADE)
    data = DATASETS["coco"](data_root=folder, allow_unlisted=True, **MADE)
    Image.new("RGB", (10, 20)).save(tmp_path / "images/a.png")
    with pytest.raises(UserError, match=r"a\.png is 20 high x 10 wide .* says 10 x 20"):
        data.splits["train"][1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data_root": None}, "name their folder with --data_root"),
        ({"train": "b.json"}, r"b\.json does not exist"),
        ({"train_images": "pictures"}, "folder of images .*pictures does not exist"),
        ({"validation_fraction": 1.5}, r"validation_fraction is 1\.5"),
        ({"train": "images/a.png"}, "a.png is not text in UTF-8"),
    ],
)
def test_a_folder_that_is_not_as_declared_is_reported(made, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        DATASETS["coco"](**{"data_root": made(), **MADE, **arguments})


def test_files_of_other_categories_are_reported(made, tmp_path):
    folder = made()
    other = json.loads((tmp_path / "a.json").read_text())
    other["categories"] = [{"id": 7, "name": "cat"}]
    (tmp_path / "b.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"config\.data\.test has other categories"):
        DATASETS["coco"](data_root=folder, test="b.json", test_images="images", **MADE)
    with pytest.raises(
        UserError, match="keypoints are wanted, but its categories have"
    ):
        DATASETS["coco"](data_root=folder, keypoints=True, **MADE | {"train": "b.json"})


def content_of(folder):
    return json.loads((Path(folder) / "a.json").read_text())


def write_back(folder, content):
    (Path(folder) / "a.json").write_text(json.dumps(content))


def test_a_set_without_an_object_stops(made):
    folder = made(category_id=9)
    with pytest.raises(UserError, match=r"1 of 1 annotations are wrong.*none is left"):
        DATASETS["coco"](data_root=folder, skip_invalid=True, **MADE)
    for annotations in ([], [content_of(made())["annotations"][0] | {"iscrowd": 1}]):
        write_back(folder, content_of(folder) | {"annotations": annotations})
        with pytest.raises(UserError, match=r"a\.json has no object to train on"):
            DATASETS["coco"](data_root=folder, **MADE)


def test_names_with_backslashes_and_the_folder_in_front_are_read(made):
    folder = made()
    content = content_of(folder)
    for image, before in zip(content["images"], ("images\\", "images/"), strict=True):
        image["file_name"] = before + image["file_name"]
    write_back(folder, content)
    data = DATASETS["coco"](data_root=folder, **MADE)
    assert [record["name"] for record in data.splits["train"]] == ["b", "a"]


def test_an_image_that_is_left_out_is_no_unlisted_one(made):
    folder = made()
    content = content_of(folder)
    content["images"][1]["height"] = None
    write_back(folder, content)
    with pytest.raises(UserError, match="image 2: its height is None"):
        DATASETS["coco"](data_root=folder, **MADE)
    data = DATASETS["coco"](data_root=folder, skip_invalid=True, **MADE)
    assert [record["name"] for record in data.splits["train"]] == ["a"]


def test_sizes_are_those_of_the_image_as_it_is_shown(made):
    folder = made()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = Path(folder) / "images/a.png"
    Image.new("RGB", (20, 10)).save(path, exif=exif)
    # Stored as the file says, 10 high and 20 wide, and turned by a quarter when read.
    Image.new("RGB", (10, 20)).save(Path(folder) / "images/b.png")
    records = DATASETS["coco"](data_root=folder, **MADE).splits["train"]
    with pytest.raises(
        UserError, match=r"stored 10 high x 20 wide, as .* tag turns it to 20 x 10"
    ):
        records[1]
    with pytest.raises(UserError, match=r"b\.png is 20 high x 10 wide .* says 10 x 20"):
        records[0]
    Image.new("RGB", (20, 10)).save(path.with_suffix(".tif"), tiffinfo={274: 6})
    path.with_suffix(".tif").rename(path)
    with pytest.raises(
        UserError, match=r"stored 10 high x 20 wide.*turns it to 20 x 10"
    ):
        records[1]
    content = content_of(folder)
    content["images"][0] |= {"height": 20, "width": 10}
    write_back(folder, content)
    assert DATASETS["coco"](data_root=folder, **MADE).splits["train"][1]["name"] == "a"


def test_the_collector_of_cycles_runs_again_after_a_file(made):
    folder = made(bbox=None)
    with pytest.raises(UserError):
        DATASETS["coco"](data_root=folder, **MADE)
    assert gc.isenabled()


def test_grey_images_are_converted_and_the_log_says_so_once(made, caplog):
    folder = made()
    for name in "ab":
        Image.new("L", (20, 10), 7).save(Path(folder) / f"images/{name}.png")
    records = DATASETS["coco"](data_root=folder, **MADE).splits["train"]
    with caplog.at_level("INFO", logger="segjax"):
        for record in records:
            assert record["image"].shape == (10, 20, 3)
            assert (record["image"] == 7).all()
    logged = [m for m in caplog.messages if "some files are grey" in m]
    assert len(logged) == 1
    assert f"{Path(folder) / 'images'}" in logged[0]
