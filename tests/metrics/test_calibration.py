"""Calibration errors: against the definition, pixel by pixel."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from segjax.metrics import calibration_counts, calibration_metrics
from segjax.metrics.calibration import fit_temperature, negative_log_likelihood
from segjax.metrics.direction import score
from segjax.types import IGNORE_LABEL


def by_definition(label, probabilities, bins):
    """The expected and the maximum error of one image, with loops."""
    members = {}
    for place in np.ndindex(label.shape):
        if label[place] == IGNORE_LABEL:
            continue
        values = probabilities[place]
        for m in range(bins):
            if m / bins < values.max() <= (m + 1) / bins:
                right = values.argmax() == label[place]
                members.setdefault(m, []).append((values.max(), right))
    total = sum(map(len, members.values()))
    gaps = {m: abs(np.mean([r - c for c, r in x])) for m, x in members.items()}
    expected = sum(len(members[m]) / total * gap for m, gap in gaps.items())
    return expected, max(gaps.values())


def test_errors_are_those_of_the_definition():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet((0.5, 0.5, 0.5), (9, 11))
    label = random.integers(0, 3, (9, 11))
    label[:2] = IGNORE_LABEL
    found = calibration_metrics(calibration_counts(label, probabilities, bins=10))
    expected = by_definition(label, probabilities, 10)
    np.testing.assert_allclose(tuple(found.values()), expected)


def test_images_are_added_before_they_are_divided():
    random = np.random.default_rng(1)
    probabilities, label = (
        random.dirichlet((1, 1), (6, 8)),
        random.integers(0, 2, (6, 8)),
    )
    parts = [slice(0, 1), slice(1, 6)]
    added = sum(calibration_counts(label[x], probabilities[x]) for x in parts)
    np.testing.assert_allclose(added, calibration_counts(label, probabilities))


def test_what_is_sure_and_right_has_no_error():
    sure = np.eye(2)[np.array([[0, 1]])]
    right = calibration_metrics(calibration_counts(np.array([[0, 1]]), sure))
    assert set(right.values()) == {0}
    wrong = calibration_metrics(calibration_counts(np.array([[1, 0]]), sure))
    assert set(wrong.values()) == {1}
    name = "expected_calibration_error"
    assert score(right, name) > score(wrong, name)


def test_the_temperature_is_that_of_the_least_likelihood_on_a_grid():
    random = np.random.default_rng(2)
    logits = random.normal(0, 4, (500, 3))
    label = (logits + random.gumbel(0, 2.5, logits.shape)).argmax(-1)
    found = fit_temperature(logits, label)
    grid = np.linspace(0.5, 6, 1101)
    values = [
        -np.log(softmax(logits / t, 1)[np.arange(500), label]).mean() for t in grid
    ]
    assert found == pytest.approx(grid[np.argmin(values)], abs=0.01)
    assert 2 < found < 3  # that of the noise of the labels
    least = negative_log_likelihood(logits, label, found)
    assert least == pytest.approx(min(values), abs=1e-6)


def test_without_a_pixel_nothing_is_defined():
    counts = calibration_counts(np.full((2, 2), IGNORE_LABEL), np.ones((2, 2, 1)))
    assert all(map(math.isnan, calibration_metrics(counts).values()))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[H, W, K\]"):
        calibration_counts(np.zeros((2, 3)), np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match=r"\[M, 3\]"):
        calibration_metrics(np.zeros((3, 4)))
