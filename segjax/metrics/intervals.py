"""How sure a figure is: intervals over runs, and of differences over images."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

RESAMPLES = 10_000
"""Of the bootstrap."""

_AT_A_TIME = 1_000


class Interval(NamedTuple):
    """An estimate and its interval of 95 %.

    Attributes:
      estimate: the mean, or the mean difference.
      low: the lower end; NaN where there is one value.
      high: the upper end.
    """

    estimate: float
    low: float
    high: float


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of independent values, as of runs with other seeds, and its interval.

    Student (1908): the mean is `m`, the sample standard deviation `s`, and the interval
    `m +- t s / sqrt(n)`, where `t` is a quantile of the distribution with `n - 1` degrees of
    freedom. It takes the values as normally distributed.

    Args:
      values: `[N]`, one of each run.
      level: probability with which such intervals hold the true mean.

    Returns:
      Mean and interval.

    Raises:
      ValueError: if there is no value.

    Example:
      >>> mean, low, high = t_interval([0.60, 0.62, 0.64])
      >>> round(mean, 4), round(low, 4), round(high, 4)
      (0.62, 0.5703, 0.6697)
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"values is one number for each run, got {list(found.shape)}")
    mean = float(found.mean())
    if len(found) == 1:
        return Interval(mean, math.nan, math.nan)
    degrees = len(found) - 1
    quantile = float(special.stdtrit(degrees, (1 + level) / 2))
    half = quantile * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(mean, mean - half, mean + half)


def welch_interval(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95
) -> Interval:
    """The difference of the means of two settings over their runs, and its interval.

    Welch (1947): the two need neither the same spread nor the same number of runs.

    Args:
      first: `[N]`, one value of each run of the first setting.
      second: `[M]`, the same of the second.
      level: probability with which such intervals hold the true difference.

    Returns:
      The mean of `second` less that of `first`, and its interval; NaN at both ends where a
      setting has one run.

    Example:
      >>> difference, low, high = welch_interval([0.60, 0.62, 0.64], [0.66, 0.68, 0.70])
      >>> round(difference, 4), round(low, 4), round(high, 4)
      (0.06, 0.0147, 0.1053)
    """
    both = [np.asarray(values, np.float64) for values in (first, second)]
    difference = float(both[1].mean() - both[0].mean())
    if min(map(len, both)) < 2:
        return Interval(difference, math.nan, math.nan)
    parts = [values.var(ddof=1) / len(values) for values in both]
    variance = sum(parts)
    if variance == 0:
        return Interval(difference, difference, difference)
    squares = [x**2 / (len(v) - 1) for x, v in zip(parts, both, strict=True)]
    degrees = variance**2 / sum(squares)
    half = float(special.stdtrit(degrees, (1 + level) / 2) * math.sqrt(variance))
    return Interval(difference, difference - half, difference + half)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean difference of two networks over the same images, and its interval.

    Images are sampled with replacement, both networks on the same ones; the interval is from
    percentile to percentile of the mean differences (Efron, Tibshirani 1993, chapter 13).
    It says what other images of the same kind would give, not other seeds.

    Args:
      first: `[N]`, a figure of the first network for each image.
      second: the same of the second.
      level: probability with which such intervals hold the true difference.
      resamples: how often images are sampled.
      seed: of the samples.

    Returns:
      The mean of `second - first`, and its interval.

    Raises:
      ValueError: if the two are not figures of the same images.

    Example:
      >>> paired_bootstrap([0.5, 0.6, 0.7], [0.6, 0.7, 0.8]).estimate.__round__(4)
      0.1
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(
            "first and second are figures of the same images, got "
            f"{list(a.shape)} and {list(b.shape)}"
        )
    differences, count = b - a, len(a)
    if count == 1:
        return Interval(float(differences[0]), math.nan, math.nan)
    generator = np.random.default_rng(seed)
    means = []
    for begin in range(0, resamples, _AT_A_TIME):
        size = min(_AT_A_TIME, resamples - begin), count
        chosen = generator.integers(0, count, size)
        means.append(differences[chosen].mean(axis=1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return Interval(float(differences.mean()), float(low), float(high))
