"""Boundary IoU: against erosion by the paper's own code, spelt out with scipy."""

import math

import numpy as np
import pytest
from scipy import ndimage

from segjax.metrics import boundary_iou_counts, boundary_iou_metrics
from segjax.types import IGNORE_LABEL


def outline(mask, width):
    """`mask_to_boundary` of the paper's code: the mask without what erosion leaves."""
    square = np.ones((3, 3), bool)
    eroded = ndimage.binary_erosion(np.pad(mask, 1), square, iterations=width)
    return mask & ~eroded[1:-1, 1:-1]


def test_counts_are_those_of_eroded_masks():
    random = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(random.random((2, 60, 80)), (0, 5, 5))
    label, prediction = np.digitize(blobs, np.quantile(blobs, (0.3, 0.7)))
    label[20:26, 30:50] = IGNORE_LABEL
    counts = boundary_iou_counts(label, prediction, num_classes=3)
    assert round(0.02 * math.hypot(60, 80)) == 2
    for k in range(3):
        masks = (x == k for x in (label, prediction))
        one, two = (outline(mask & (label != IGNORE_LABEL), 2) for mask in masks)
        np.testing.assert_array_equal(counts[k], [(one & two).sum(), (one | two).sum()])


def test_a_square_that_is_one_column_off():
    label = np.zeros((30, 30), int)
    label[10:20, 10:20] = 1
    counts = boundary_iou_counts(label, np.roll(label, 1, 1), num_classes=2)
    # Of both rings of 36 pixels the upper and lower rows overlap in 9, and nothing else.
    np.testing.assert_array_equal(counts[1], [18, 54])
    metrics = boundary_iou_metrics(counts, ("background", "cell"))
    assert metrics["boundary_iou/cell"] == pytest.approx(18 / 54)
    both = (metrics["boundary_iou/background"] + 18 / 54) / 2
    assert metrics["mean_boundary_iou"] == pytest.approx(both)


def test_classes_that_are_absent_are_left_out():
    empty = np.zeros((5, 5), int)
    metrics = boundary_iou_metrics(boundary_iou_counts(empty, empty, num_classes=2))
    assert math.isnan(metrics["boundary_iou/1"])
    assert metrics["mean_boundary_iou"] == 1
    missed = boundary_iou_counts(np.eye(5, dtype=int), empty, num_classes=2)
    assert boundary_iou_metrics(missed)["boundary_iou/1"] == 0


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        boundary_iou_counts(np.zeros((2, 3)), np.zeros((3, 2)), num_classes=2)
    with pytest.raises(ValueError, match=r"\[K, 2\]"):
        boundary_iou_metrics(np.zeros((3, 4)))
