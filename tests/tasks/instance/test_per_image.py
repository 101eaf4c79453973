"""The table of images with objects, and the loss of images that are seen whole."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from segjax.data.dataset import Dataset
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import InstanceClasses
from segjax.output.folder import Outputs
from segjax.rle import encode
from segjax.tasks.instance.per_image import InstancesPerImage
from segjax.tasks.instance.validation_loss import validation_loss
from segjax.training.run_files.image_table import TABLE

NAMES = ("background", "cell")
DATASET = Dataset(
    "made up", InstanceClasses(NAMES, ((0, 0, 0),) * 2), 3, {}, InstanceSpec((1,))
)
MASKS = np.zeros((2, 8, 8), bool)
MASKS[0, :4], MASKS[1, 5:] = True, True
BOXES = np.array([[0, 0, 4, 8], [5, 0, 8, 8]], np.float32)


def record(name):
    return {
        "name": name,
        "image": np.zeros((8, 8, 3), np.uint8),
        "boxes": BOXES,
        "classes": np.array([1, 1]),
        "crowd": np.zeros(2, bool),
        "masks": [encode(mask) for mask in MASKS],
    }


def found(scores):
    count = len(scores)
    return {
        "boxes": BOXES[:count],
        "scores": np.array(scores),
        "classes": np.ones(count, int),
        "masks": MASKS[:count],
    }


def test_rows_are_sorted_by_f1_and_predictions_number_the_objects(tmp_path):
    records = [record("plate/a"), record("plate/A")]  # one file on some disks
    table = InstancesPerImage(records, DATASET, 0.5)
    outputs = Outputs(tmp_path, [(x, "the evaluation") for x in table.files])
    outputs.make_folder()
    table.save_predictions(outputs)
    table.add(0, records[0], found([0.9, 0.8]), {"own": 0.25})
    table.add(1, records[1], found([0.9, 0.3]), {"own": 0.5})
    table.write(outputs)
    worst, best = csv.DictReader(io.StringIO((tmp_path / TABLE).read_text()))
    assert (worst["name"], best["name"]) == ("plate/A", "plate/a")
    assert (worst["true_objects"], worst["found_objects"]) == ("2", "1")
    assert (worst["recall@0.5"], worst["own"]) == ("0.5", "0.5")
    assert (best["f1@0.5"], best["picture"]) == ("1", "worst_2.png")
    assert best["prediction"] == "predictions/plate/a.png"
    assert worst["prediction"] == "predictions/plate/A_1.png"
    with Image.open(tmp_path / best["prediction"]) as picture:
        expected = MASKS[0] + 2 * MASKS[1]
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_the_loss_is_the_mean_over_images_each_seen_whole():
    records = [record("a"), record("b")]
    seen = []

    def loss(variables, batch, key):
        seen.append((np.asarray(batch["boxes"][0]), str(key)))
        return {"loss": np.float32(len(seen)), "mask_loss": np.float32(0.5)}

    options = {"buckets": ((16, 16),), "resize": "fit", "max_objects": 3}
    options |= {"mask_size": 4, "keypoint_swap": None}
    assert validation_loss(loss, {}, records, **options) == {
        "loss": pytest.approx(1.5),
        "mask_loss": 0.5,
    }
    boxes, keys = zip(*seen, strict=True)
    np.testing.assert_allclose(boxes[0][:2], 2 * BOXES)
    assert keys[0] != keys[1]
    seen.clear()
    validation_loss(loss, {}, records, **options)
    assert tuple(key for _, key in seen) == keys
