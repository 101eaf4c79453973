"""Metrics of classes that overlap, against sets of pixels."""

import math

import numpy as np
import pytest

from segjax.metrics.overlapping import overlapping_counts, overlapping_metrics
from segjax.types import IGNORE_LABEL

NAMES = ("a", "b", "c")


def test_metrics_are_those_of_sets_of_pixels():
    rng = np.random.default_rng(0)
    label, found = rng.integers(0, 8, (2, 30, 40)).astype(np.uint8)
    label[:3] = IGNORE_LABEL
    halves = (slice(None, 15), slice(15, None))
    counts = sum(
        overlapping_counts(label[part], found[part], num_classes=3) for part in halves
    )
    metrics = overlapping_metrics(counts, NAMES)
    right = 0
    for k, name in enumerate(NAMES):
        true, said = ((x[3:] >> k & 1).astype(bool) for x in (label, found))
        both = (true & said).sum()
        assert metrics[f"iou/{name}"] == pytest.approx(both / (true | said).sum())
        dice = 2 * both / (true.sum() + said.sum())
        assert metrics[f"dice/{name}"] == pytest.approx(dice)
        assert metrics[f"precision/{name}"] == pytest.approx(both / said.sum())
        assert metrics[f"recall/{name}"] == pytest.approx(both / true.sum())
        right += (true == said).mean() / 3
    assert metrics["pixel_accuracy"] == pytest.approx(right)
    means = np.mean([metrics[f"iou/{name}"] for name in NAMES])
    assert metrics["mean_iou"] == pytest.approx(means)


def test_classes_that_are_nowhere_are_left_out_of_means():
    counts = overlapping_counts(np.array([[1]]), np.array([[1]]), num_classes=3)
    metrics = overlapping_metrics(counts, NAMES)
    assert metrics["mean_iou"] == 1
    assert math.isnan(metrics["iou/b"])
