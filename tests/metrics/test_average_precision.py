"""COCO's average precision, against what pycocotools has computed."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.datasets.coco.polygons import polygons_to_rle
from segjax.data.instance_spec import COCO_SIGMAS
from segjax.metrics.average_precision import AveragePrecision
from segjax.metrics.instance_similarity import boundary
from segjax.rle import decode, encode, from_counts, from_string


def corners(annotations):
    """COCO's boxes, x, y, width and height, as ours."""
    x, y, w, h = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4).T
    return np.stack([y, x, y + h, x + w], axis=1)


def to_rle(segmentation, size):
    if isinstance(segmentation, list):
        return polygons_to_rle(segmentation, size)
    counts = segmentation["counts"]
    read = from_counts if isinstance(counts, list) else from_string
    return read(counts, tuple(segmentation["size"]))


def points(annotations):
    x, y, v = np.moveaxis(
        np.array([a["keypoints"] for a in annotations], float).reshape(-1, 17, 3), -1, 0
    )
    return np.stack([y, x, v], axis=-1)


def measured(folder, kind, truth_file, found_file):
    """Our numbers for a pair of files."""
    truth, found = (
        json.loads((folder / f).read_text()) for f in (truth_file, found_file)
    )
    classes = {c["id"]: k for k, c in enumerate(truth["categories"], 1)}
    metric = AveragePrecision(
        [c["name"] for c in truth["categories"]],
        kind,
        sigmas=COCO_SIGMAS if kind == "keypoints" else (),
    )
    for image in sorted(truth["images"], key=lambda image: image["id"]):
        size = (image["height"], image["width"])
        real, given = (
            [a for a in anns if a["image_id"] == image["id"]]
            for anns in (truth["annotations"], found)
        )
        objects = {
            "boxes": corners(real),
            "classes": [classes[a["category_id"]] for a in real],
            "crowd": [a["iscrowd"] for a in real],
            "areas": [a["area"] for a in real],
        }
        detections = {
            "classes": [classes[a["category_id"]] for a in given],
            "scores": [a["score"] for a in given],
        }
        if kind in ("masks", "boundaries"):
            objects["masks"] = [to_rle(a["segmentation"], size) for a in real]
            detections["masks"] = [to_rle(a["segmentation"], size) for a in given]
        else:
            detections["boxes"] = corners(given)
        if kind == "keypoints":
            objects["keypoints"], detections["keypoints"] = points(real), points(given)
        metric.add(objects, detections)
    return metric.result()


FILES = {
    "boxes": ("bbox", "instances_val2014_100", "instances_val2014_fakebbox100_results"),
    "masks": ("segm", "instances_val2014_100", "instances_val2014_fakesegm100_results"),
    "keypoints": ("keypoints", "keypoints_gt", "keypoints_dt"),
}


@pytest.mark.parametrize("kind", FILES)
def test_all_numbers_are_those_of_pycocotools(shared_data, kind):
    folder = shared_data / "coco_eval_fixtures"
    key, truth_file, found_file = FILES[kind]
    scores = measured(folder, kind, f"{truth_file}.json", f"{found_file}.json")
    expected = json.loads((folder / "expected.json").read_text())[key]
    wanted = dict(zip(expected["names"], expected["stats"], strict=True))
    assert scores.stats == pytest.approx(wanted, abs=1e-6)
    for name, value in expected.get("AP_per_category", {}).items():
        found = scores.per_class[name]["AP"]
        assert math.isnan(found) if value is None else found == pytest.approx(value)


def square(top, left, side=10.0):
    return [top, left, top + side, left + side]


def scored(truth, found, **arguments):
    """The numbers of one class and one image; boxes may be lists."""
    metric = AveragePrecision(("thing",), **arguments)
    full = {"classes": np.ones(len(truth["boxes"]), int), **truth}
    given = {"classes": np.ones(len(found["boxes"]), int), **found}
    metric.add(full, given)
    return metric.result()


def test_each_object_is_found_once_and_the_rest_is_wrong():
    truth = {"boxes": [square(0, 0), square(0, 20)]}
    found = {"boxes": [square(0, 0)] * 2 + [square(0, 20)], "scores": [0.9, 0.8, 0.7]}
    # Precision 1 until recall 0.5, then 2 / 3.
    wanted = (51 * 1 + 50 * 2 / 3) / 101
    assert scored(truth, found).stats["AP"] == pytest.approx(wanted)
    assert scored(truth, found).stats["AR_1"] == pytest.approx(0.5)


def test_a_crowd_is_neither_found_nor_missed_whatever_lies_in_it():
    truth = {"boxes": [square(0, 0), square(20, 20, 60.0)], "crowd": [False, True]}
    boxes = [square(0, 0), square(30, 30), square(45, 45)]
    found = {"boxes": boxes, "scores": [0.5, 0.9, 0.8]}
    assert scored(truth, found).stats["AP"] == pytest.approx(1.0)
    outside = {"boxes": [*boxes, square(0, 60)], "scores": [0.5, 0.9, 0.8, 0.7]}
    assert scored(truth, outside).stats["AP"] == pytest.approx(0.5)


def test_detections_of_another_size_do_not_count_against_a_size():
    truth = {"boxes": [square(0, 0, 20.0)]}
    found = {"boxes": [square(0, 0, 20.0), square(50, 0, 50.0)], "scores": [0.5, 0.9]}
    stats = scored(truth, found).stats
    assert stats["AP"] == pytest.approx(0.5)
    assert stats["AP_small"] == pytest.approx(1.0)
    assert math.isnan(stats["AP_medium"])


def test_nothing_found_is_zero_and_no_truth_is_not_a_number():
    empty = {"boxes": np.zeros((0, 4)), "scores": []}
    assert scored({"boxes": [square(0, 0)]}, empty).stats["AP"] == 0
    nothing = scored(
        {"boxes": np.zeros((0, 4))}, {"boxes": [square(0, 0)], "scores": [1.0]}
    )
    assert math.isnan(nothing.stats["AP"])


def test_images_may_be_measured_apart_and_merged():
    rng = np.random.default_rng(1)
    parts = [AveragePrecision(("a", "b")) for _ in range(3)]
    for i in range(6):
        boxes = np.cumsum(rng.uniform(1, 9, (5, 4)), axis=0) + np.array([0, 0, 9, 9])
        classes = rng.integers(1, 3, 5)
        shifted = boxes + rng.normal(0, 1.5, (5, 4))
        found = {"boxes": shifted, "classes": classes, "scores": rng.random(5)}
        parts[0].add({"boxes": boxes, "classes": classes}, found)
        parts[1 + i // 3].add({"boxes": boxes, "classes": classes}, found)
    parts[1].merge(parts[2])
    assert parts[0].result().stats["AP"] == parts[1].result().stats["AP"]
    assert 0.05 < parts[0].result().stats["AP"] < 0.95


def test_the_boundary_is_what_an_erosion_takes_away():
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.standard_normal((90, 120)), 6) > 0
    width = round(0.02 * math.hypot(90, 120))
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width)
    np.testing.assert_array_equal(decode(boundary(encode(mask))), mask & ~eroded)


def test_boundaries_see_what_areas_hide():
    truth, found = np.zeros((2, 100, 100), bool)
    truth[10:90, 10:90], found[13:90, 13:90] = True, True
    objects = {"masks": truth[None], "classes": [1]}
    detections = {"masks": found[None], "classes": [1], "scores": [1.0]}
    scores = {}
    for kind in ("masks", "boundaries"):
        metric = AveragePrecision(("square",), kind)
        metric.add(objects, detections)
        scores[kind] = metric.result().stats["AP"]
    assert scores["masks"] == pytest.approx(0.9)
    assert scores["boundaries"] < 0.4


@pytest.mark.parametrize(
    ("arguments", "found", "sentence"),
    [
        ({"kind": "outlines"}, {}, "kind must be one of boxes, masks"),
        ({"kind": "keypoints"}, {}, "sigmas must be given"),
        ({"max_detections": (10, 1)}, {}, "max_detections must be integers"),
        ({}, {"classes": [2]}, "detections: class 2 is not in 1 to 1"),
        ({}, {"scores": [0.5, 0.1]}, "detections: 1 classes, but 2 scores"),
        (
            {"kind": "keypoints", "sigmas": (0.1,) * 3},
            {},
            r"keypoints must be \[1, 3, 3",
        ),
    ],
)
def test_what_does_not_fit_is_reported(arguments, found, sentence):
    given = {"boxes": [square(0, 0)], "scores": [0.5], "keypoints": np.zeros((1, 2, 3))}
    truth = {"boxes": [square(0, 0)], "keypoints": np.zeros((1, 3, 3))}
    with pytest.raises(ValueError, match=sentence):
        scored(truth, given | found, **arguments)
