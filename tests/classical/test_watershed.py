"""Objects without learning: what a threshold and a watershed can do, and cannot."""

import numpy as np
import pytest

from segjax.classical.watershed import watershed_baseline
from segjax.data import DATASETS
from segjax.metrics.matching_f1 import matching_counts, matching_metrics
from segjax.tasks.instance.baseline import evaluate_watershed, truth_label


def discs(centers, radius=9.0, size=(48, 64)):
    y, x = np.indices(size) + 0.5
    label = np.zeros(size, int)
    for number, (cy, cx) in enumerate(centers, 1):
        label[np.hypot(y - cy, x - cx) < radius] = number
    return label


@pytest.mark.parametrize("bright", [True, False])
def test_touching_discs_are_parted_bright_or_dark(bright):
    label = discs([(14, 14), (14, 30), (34, 44)])
    noise = np.random.default_rng(0).normal(0, 8, label.shape)
    image = np.where((label > 0) == bright, 180, 60) + noise
    found = watershed_baseline(image, sigma=1.0, spacing=5)
    assert matching_counts(label, found, (0.7,))[0, :3].tolist() == [3, 0, 0]


def test_channels_are_averaged_and_specks_are_dropped():
    label = discs([(20, 20)])
    image = np.zeros((*label.shape, 3), np.uint8)
    image[label > 0] = (0, 250, 200)
    image[40:42, 50:52] = 255
    found = watershed_baseline(image, sigma=0, least_area=10)
    np.testing.assert_array_equal(found > 0, label > 0)


def test_an_image_of_one_value_has_no_objects():
    assert not watershed_baseline(np.full((9, 9), 7, np.uint8)).any()


@pytest.mark.parametrize(
    ("image", "arguments", "sentence"),
    [
        (np.zeros(4), {}, r"\[H, W\] or \[H, W, C\], got shape \(4,\)"),
        (np.zeros((4, 4)), {"sigma": -1}, "sigma must not be negative, got -1"),
        (np.zeros((4, 4)), {"spacing": -1}, "spacing must not be negative"),
    ],
)
def test_what_cannot_be_parted_is_reported(image, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        watershed_baseline(image, **arguments)


def test_real_nuclei_are_found_by_more_than_half(shared_data):
    nuclei = DATASETS["instance_folder"](data_root=str(shared_data / "nuclei_dsb2018"))
    counts = []
    for record in nuclei.splits["validation"][:6]:
        label = watershed_baseline(record["image"])
        counts.append(matching_counts(truth_label(record), label))
    assert 0.5 < matching_metrics(counts)["f1@0.5"] < 1


def test_the_baseline_is_tuned_on_training_images_and_measured_on_others(cache_dir):
    shapes = DATASETS["instance_shapes"](
        cache_dir=cache_dir, size=64, num_kinds=1, train=3, validation=2, test=1
    )
    metrics = evaluate_watershed(shapes, "validation", tuned_on=2)
    assert 0 <= metrics["mask_AP50"] <= 1
    assert metrics["f1@0.5"] >= metrics["f1@0.9"]
    assert {"sigma", "spacing", "dsb_score", "mask_AP"} <= metrics.keys()
