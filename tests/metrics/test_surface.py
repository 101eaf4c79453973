"""Surface distances: against the definition, spelt out pixel by pixel."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff

from segjax.metrics import surface_counts, surface_metrics
from segjax.metrics.direction import score
from segjax.types import IGNORE_LABEL


def boundary(classes, k, counted):
    """The pixels of class k with a neighbour of another class, one by one."""
    height, width = classes.shape
    found = []
    for y, x in np.argwhere((classes == k) & counted):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(i, j) for i, j in around if 0 <= i < height and 0 <= j < width]
        if any(counted[p] and classes[p] != k for p in inside):
            found.append((y, x))
    return found


def distances(label, prediction, k):
    counted = label != IGNORE_LABEL
    truth, given = (boundary(x, k, counted) for x in (label, prediction))
    there = [min(math.dist(p, q) for q in truth) for p in given]
    back = [min(math.dist(p, q) for q in given) for p in truth]
    average = (sum(there) + sum(back)) / (len(there) + len(back))
    far = max(np.percentile(there, 95), np.percentile(back, 95))
    return average, far, max(*there, *back)


def test_distances_are_those_of_the_definition():
    random = np.random.default_rng(0)
    label = random.integers(0, 3, (11, 13))
    label[3:6, 4:8] = IGNORE_LABEL
    prediction = np.roll(random.integers(0, 3, (11, 13)), 2, 1)
    prediction[:, :6] = 0
    sums = surface_counts(label, prediction, num_classes=3)
    for k in range(3):
        np.testing.assert_allclose(sums[k, :3], distances(label, prediction, k))
    np.testing.assert_allclose(sums[3, :3], sums[:3, :3].mean(0))


def test_a_square_that_is_off_by_three_columns():
    label = np.zeros((20, 30), int)
    label[5:15, 5:15] = 1
    metrics = surface_metrics(
        surface_counts(label, np.roll(label, 3, 1), num_classes=2)
    )
    assert metrics["hausdorff_95/1"] == 3
    assert 0 < metrics["surface_distance/1"] < 3
    same = surface_metrics(surface_counts(label, label, num_classes=2))
    names = ("surface_distance", "hausdorff_95", "hausdorff")
    assert [same[name] for name in names] == [0, 0, 0]


def test_the_hausdorff_distance_is_that_of_scipy_on_the_outlines():
    random = np.random.default_rng(1)
    label, prediction = random.integers(0, 2, (2, 9, 14))
    label[:, :6], prediction[:, 9:] = 0, 0
    sums = surface_counts(label, prediction, num_classes=2)
    counted = np.ones(label.shape, bool)
    for k in range(2):
        truth, given = (np.array(boundary(x, k, counted)) for x in (label, prediction))
        ways = (truth, given), (given, truth)
        far = max(directed_hausdorff(*way)[0] for way in ways)
        assert sums[k, 2] == pytest.approx(far)
        assert sums[k, 1] <= sums[k, 2]


def test_a_class_that_is_missed_is_undefined_and_said():
    label = np.zeros((6, 6), int)
    label[2:4, 2:4] = 1
    missed = surface_counts(label, 0 * label, num_classes=2)
    metrics = surface_metrics(missed, ("background", "cell"))
    assert math.isnan(metrics["surface_distance"])
    assert math.isnan(metrics["hausdorff_95/cell"])
    assert math.isnan(metrics["hausdorff/cell"])
    assert metrics["surface_undefined"] == 1
    both = surface_metrics(missed + surface_counts(label, label, num_classes=2))
    assert (both["surface_distance"], both["surface_undefined"]) == (0, 1)
    empty = surface_metrics(surface_counts(0 * label, 0 * label, num_classes=2))
    assert math.isnan(empty["surface_distance"])
    assert empty["surface_undefined"] == 0


def test_a_smaller_distance_is_better():
    near, far = {"surface_distance/cell": 1.0}, {"surface_distance/cell": 2.0}
    name = "surface_distance/cell"
    assert score(near, name) > score(far, name)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        surface_counts(np.zeros((2, 3)), np.zeros((3, 2)), num_classes=2)
    with pytest.raises(ValueError, match=r"\[K \+ 1, 5\]"):
        surface_metrics(np.zeros((3, 2)))
