"""Matching objects of label images: counts that can be seen by eye."""

import math

import numpy as np
import pytest

from segjax.metrics.matching_f1 import THRESHOLDS, matching_counts, matching_metrics

LABEL = np.zeros((20, 20), int)
LABEL[1:5, 1:5], LABEL[8:12, 1:9], LABEL[15:19, 15:19] = 1, 5, 9


def test_a_perfect_prediction_has_every_object_whatever_its_number():
    other = np.select([LABEL == 1, LABEL == 5, LABEL == 9], [300, 2, 1])
    counts = matching_counts(LABEL, other)
    np.testing.assert_array_equal(counts, [[3, 0, 0, 3]] * 10)
    metrics = matching_metrics([counts, counts])
    assert {v for k, v in metrics.items()} == {1.0}


def test_halves_missed_and_invented_objects_are_counted():
    given = np.zeros_like(LABEL)
    given[1:5, 1:5] = 1  # right
    given[8:12, 1:7] = 2  # 24 of 32 pixels: IoU 0.75
    given[1:5, 10:14] = 3  # invented; the third object is missed
    counts = matching_counts(LABEL, given, (0.5, 0.75, 0.8))
    assert counts.tolist() == [[2, 1, 1, 1.75], [2, 1, 1, 1.75], [1, 2, 2, 1]]
    metrics = matching_metrics([counts], (0.5, 0.75, 0.8))
    assert metrics["f1@0.5"] == pytest.approx(4 / 6)
    assert metrics["matching_ap@0.8"] == pytest.approx(1 / 5)
    assert metrics["precision@0.75"] == pytest.approx(2 / 3)
    assert metrics["panoptic_quality@0.5"] == pytest.approx(1.75 / 3)
    assert metrics["dsb_score"] == pytest.approx((0.5 + 0.5 + 0.2) / 3)


def test_below_one_half_as_many_pairs_as_possible_are_made():
    """One true object overlaps both predicted ones; only the other pairing has two."""
    label, given = np.array([[1] * 6 + [2] * 6]), np.array([[1] * 9 + [2] * 3])
    counts = matching_counts(label, given, (0.3,))
    assert counts[0, :3].tolist() == [2, 0, 0]
    crossed = np.array([[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]])
    parts = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0]])
    assert matching_counts(crossed, parts, (0.2,))[0].tolist() == [
        2,
        0,
        0,
        pytest.approx(2 / 6 + 2 / 6),
    ]


def test_images_are_added_up_but_the_score_of_the_bowl_is_a_mean_of_images():
    empty = np.zeros_like(LABEL)
    nothing, missed = matching_counts(empty, empty), matching_counts(LABEL, empty)
    perfect = matching_counts(LABEL, LABEL)
    assert not nothing.any()
    metrics = matching_metrics([nothing, missed, perfect])
    assert metrics["f1@0.5"] == pytest.approx(6 / 9)
    assert metrics["dsb_score"] == pytest.approx((1 + 0 + 1) / 3)
    assert math.isnan(matching_metrics([nothing])["f1@0.5"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: matching_counts(LABEL, LABEL[:5]), "one shape"),
        (lambda: matching_counts(LABEL, -LABEL), "must not be negative"),
        (lambda: matching_counts(LABEL, LABEL, (0,)), "above 0 and at most 1"),
        (lambda: matching_metrics(np.zeros((2, 3, 4))), r"\[I, 10, 4\]"),
    ],
)
def test_what_does_not_fit_is_reported(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_thresholds_are_those_of_the_bowl():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
