"""COCO's average precision, against what pycocotools has computed."""

import json
import math

import numpy as np
import pytest

from segjax.data.instance_spec import COCO_SIGMAS
from segjax.data.polygons import polygons_to_rle
from segjax.metrics.average_precision import AveragePrecision
from segjax.rle import from_counts, from_string


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
