"""Metrics from outside beside those of objects, and images that several processes measure; what
is measured is tested in test_task.py.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.instance.records import from_masks
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.instance.evaluate import (
    InstanceEvaluation,
    InstanceMetrics,
    evaluate_instances,
)
from segjax.training import sharding

DATASET = SimpleNamespace(
    label_spec=LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9))), instances=None
)


@pytest.mark.parametrize(
    ("masks", "name", "sentence"),
    [
        (True, "mask_AP50", "mask_AP50"),
        (True, "loss", "loss"),
        (False, "area", "which this network has not"),
    ],
)
def test_metrics_from_outside_need_masks_and_names_of_their_own(masks, name, sentence):
    def check_names(known):
        if name in known:
            raise UserError(f"{name} is taken")

    model = SimpleNamespace(masks=masks, keypoints=None)
    outside = SimpleNamespace(check_names=check_names)
    with pytest.raises(UserError, match=sentence):
        InstanceEvaluation().check_outside(model, DATASET, outside)


def squares(place):
    """A record with two squares; images are of two sizes in turn."""
    size = (16, 24) if place % 2 else (24, 16)
    masks = np.zeros((2, *size), bool)
    masks[0, 1:7, 1:7] = masks[1, 8:14, 8:14] = True
    image = np.zeros((*size, 3), np.uint8)
    return from_masks(image, masks, [1, 1], name=str(place), image_id=place)


def detect(batch):
    """Finds one square of the two, a pixel or more off; many scores are the same."""
    off = batch["record"][:, None, None] % 3
    boxes = np.array([1, 1, 7, 7]) + np.concatenate([off, 0 * off, off, 0 * off], 2)
    count = len(boxes)
    return {
        "valid": np.ones((count, 1), bool),
        "boxes": boxes.astype(np.float32),
        "scores": (0.6 + batch["record"][:, None] % 2 * 0.2).astype(np.float32),
        "classes": np.ones((count, 1), np.int32),
        "masks": np.ones((count, 1, 7, 7), np.float32),
    }


@pytest.mark.parametrize("count", [2, 5])
def test_processes_measure_what_one_does(monkeypatch, count):
    """Five processes have no image for the last of them."""
    records = [squares(place) for place in range(7)]
    model = SimpleNamespace(masks=True, keypoints=None)

    def measured():
        sums = InstanceMetrics(InstanceEvaluation(matching_f1=True), model, DATASET)
        sizes = {"buckets": ((16, 24), (24, 16)), "resize": "keep"}
        how = {"split": "test", "batch_size": 2, **sizes}
        return evaluate_instances(detect, records, sums, **how).metrics, sums.places

    whole, places = measured()
    assert 0 < whole["mask_AP"] < 1
    assert sorted(places) == list(range(7))
    here, rows, together = threading.local(), [None] * count, threading.Barrier(count)

    def gather(mine):
        rows[here.index] = mine
        together.wait()
        everyone = np.concatenate(rows)
        together.wait()
        return everyone

    def process(index):
        here.index = index
        return measured()

    monkeypatch.setattr(sharding, "process_count", lambda: count)
    monkeypatch.setattr(sharding, "process_index", lambda: here.index)
    monkeypatch.setattr(sharding, "gather", gather)
    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(process, range(count)))
    np.testing.assert_equal([metrics for metrics, _ in found], [whole] * count)
    assert sorted(place for _, places in found for place in places) == list(range(7))
