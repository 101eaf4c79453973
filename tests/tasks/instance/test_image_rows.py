"""Images with objects one by one: how many were found, and the pictures of that."""

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import InstanceClasses
from segjax.rle import encode
from segjax.tasks.instance.image_rows import measure_images

NAMES = ("background", "cell", "nucleus")
DATASET = Dataset(
    "made up",
    InstanceClasses(NAMES, ((0, 0, 0),) * 3),
    3,
    {},
    InstanceSpec((1, 2)),
)


def image_with(masks, scores, classes, true, crowd=(False, False)):
    """A record with two objects, and what was found in it."""
    record = {
        "name": f"{len(scores)} found",
        "image": np.zeros((8, 8, 3), np.uint8),
        "boxes": np.zeros((2, 4), np.float32),
        "classes": np.array([1, 2]),
        "crowd": np.array(crowd),
        "masks": [encode(mask) for mask in true],
    }
    found = {
        "boxes": np.zeros((len(scores), 4), np.float32),
        "scores": np.array(scores),
        "classes": np.array(classes, int),
        "masks": np.array(masks, bool).reshape(-1, 8, 8),
    }
    return record, found


def test_objects_are_counted_above_the_score_and_matched_by_their_masks():
    true = np.zeros((2, 8, 8), bool)
    true[0, :4], true[1, 5:] = True, True
    both = image_with(true, (0.9, 0.6), (1, 2), true)
    weak = image_with(true[:1], (0.4,), (1,), true)
    found = measure_images([both, weak], DATASET, keep_score=0.5, with_panels=1)
    worst, best = found.rows
    assert worst.name == "1 found"
    assert (worst.metrics["labelled"], worst.metrics["found"]) == (2, 0)
    assert worst.metrics["f1@0.5"] == 0
    assert best.metrics["f1@0.5"] == 1
    assert [panel.caption.partition(",")[0] for panel in worst.panels] == [
        *("image", "label", "prediction", "error")
    ]
    assert best.panels == ()
    assert list(found.objects[0].rows) == [("cell", 2, 1), ("nucleus", 2, 1)]


def test_a_network_without_masks_is_measured_by_its_counts():
    true = np.zeros((2, 8, 8), bool)
    record, found = image_with(true[:1], (0.9,), (1,), true, crowd=(False, True))
    del found["masks"]
    rows = measure_images([(record, found)], DATASET, keep_score=0.5, with_panels=1)
    assert rows.rows[0].metrics == {"labelled": 1, "found": 1}
    assert "how many objects" in rows.sorted_by
    assert len(rows.rows[0].panels) == 3
