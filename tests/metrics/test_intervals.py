"""Intervals, beside those of scipy.stats."""

import math

import numpy as np
import pytest
from scipy import stats

from segjax.metrics.intervals import paired_bootstrap, t_interval, welch_interval


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_the_interval_of_seeds_is_that_of_scipy(count):
    values = np.random.default_rng(count).normal(0.6, 0.02, count)
    found = t_interval(values)
    expected = stats.t.interval(
        0.95, count - 1, loc=values.mean(), scale=stats.sem(values)
    )
    assert found.estimate == pytest.approx(values.mean())
    assert found[1:] == pytest.approx(expected)


def test_one_seed_has_no_interval():
    mean, low, high = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="one number for each run"):
        t_interval([])


def test_the_interval_of_a_difference_of_seeds_is_that_of_scipy():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.6, 0.02, 3), generator.normal(0.7, 0.05, 5)
    found = welch_interval(first, second)
    tested = stats.ttest_ind(second, first, equal_var=False)
    assert found.estimate == pytest.approx(second.mean() - first.mean())
    assert found[1:] == pytest.approx(tuple(tested.confidence_interval()))
    assert math.isnan(welch_interval([0.5], second).low)
    assert welch_interval([0.5, 0.5], [0.5, 0.5]) == (0.0, 0.0, 0.0)


def test_the_interval_of_images_is_that_of_scipy():
    generator = np.random.default_rng(0)
    first = generator.uniform(0.4, 0.9, 60)
    second = first + generator.normal(0.02, 0.05, 60)
    found = paired_bootstrap(first, second)
    expected = stats.bootstrap(
        (second - first,),
        np.mean,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.estimate == pytest.approx((second - first).mean())
    assert found[1:] == pytest.approx(tuple(expected), abs=1e-3)
    assert found == paired_bootstrap(first, second)


def test_pairs_make_the_interval_of_a_difference_narrow():
    first = np.random.default_rng(0).uniform(0.0, 1.0, 50)
    low, high = paired_bootstrap(first, first + 0.01)[1:]
    assert (low, high) == pytest.approx((0.01, 0.01))


def test_figures_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"of the same images, got \[2\] and \[3\]"):
        paired_bootstrap([0.1, 0.2], [0.1, 0.2, 0.3])
    assert math.isnan(paired_bootstrap([0.1], [0.2]).low)
