from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.crf.energies import all_labellings, energy, minimize_energy
from segjax.ops.crf.features import appearance_features, smoothness_features
from segjax.ops.crf.gaussian import ExactFilter
from segjax.ops.crf.inference import make_kernel, mean_field

# The lecture's hole: white everywhere, black in the centre, and a network's P(y = 1).
IMAGE = np.full((3, 3, 1), 255.0, np.float32)
IMAGE[1, 1] = 0
FOREGROUND = np.array([[0.8, 0.8, 0.8], [0.9, 0.1, 0.8], [0.9, 0.9, 0.9]])
PROBABILITY = np.stack([1 - FOREGROUND, FOREGROUND], -1)
WITH_HOLE = np.ones((3, 3), np.int32)
WITH_HOLE[1, 1] = 0
FILLED = np.ones((3, 3), np.int32)
ONES = {"sigma_alpha": 1.0, "sigma_beta": 1.0, "sigma_gamma": 1.0, "w1": 1.0, "w2": 1.0}


def energy_by_pairs(labels, unary, image, *, distance, mu, alpha, beta, gamma, w1, w2):
    """The definition in float64, pair by pair."""
    height, width = labels.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    total = sum(unary[y, x, labels[y, x]] for y, x in pixels)
    length = {
        "euclidean": lambda v: float(np.sqrt(np.sum(np.square(v)))),
        "chebyshev": lambda v: float(np.max(np.abs(v))),
    }[distance]
    for i, p in enumerate(pixels):
        for q in pixels[:i]:
            position = length(np.subtract(p, q, dtype=np.float64))
            color = length(image[p].astype(np.float64) - image[q])
            k = w1 * np.exp(-(position**2) / 2 / alpha**2 - color**2 / 2 / beta**2)
            k += w2 * np.exp(-(position**2) / 2 / gamma**2)
            total += mu[labels[p], labels[q]] * k
    return total


@pytest.mark.parametrize(
    ("log", "distance", "unary", "pairs"),
    [
        (np.log10, "chebyshev", (0.616428, 1.570670), 4.852245),
        (np.log, "chebyshev", (1.419377, 3.616601), 4.852245),
        (np.log10, "euclidean", (0.616428, 1.570670), 3.897640),
    ],
)
def test_energies_of_the_lecture_s_hole(log, distance, unary, pairs) -> None:
    energies = [
        float(energy(labels, -log(PROBABILITY), IMAGE, distance=distance, **ONES))
        for labels in (WITH_HOLE, FILLED)
    ]
    np.testing.assert_allclose(energies, [unary[0] + pairs, unary[1]], atol=2e-6)


def test_lecture_s_rounded_figures() -> None:
    nothing = np.zeros((3, 3, 2))
    lecture = {"distance": "chebyshev", **ONES}
    base_10 = -np.log10(PROBABILITY)
    pairs = float(energy(WITH_HOLE, nothing, IMAGE, **lecture))
    whole = float(energy(WITH_HOLE, base_10, IMAGE, **lecture))
    assert (round(whole - pairs, 2), round(pairs, 2)) == (0.62, 4.85)
    assert round(float(energy(FILLED, base_10, IMAGE, **lecture)), 2) == 1.57


@pytest.mark.parametrize("log", [np.log, np.log10])
@pytest.mark.parametrize("distance", ["euclidean", "chebyshev"])
def test_hole_is_filled_in_the_least_of_all_512_labellings(log, distance) -> None:
    assert all_labellings((3, 3), 2).shape == (512, 3, 3)
    unary = -log(PROBABILITY)
    labels, least = minimize_energy(unary, IMAGE, distance=distance, **ONES)
    np.testing.assert_array_equal(labels, FILLED)
    alone = energy(labels, unary, IMAGE, distance=distance, **ONES)
    np.testing.assert_allclose(least, alone, rtol=1e-6)


def test_hole_stays_where_pairs_weigh_nothing() -> None:
    weights = {**ONES, "w1": 0.0, "w2": 0.0}
    labels, _ = minimize_energy(-np.log(PROBABILITY), IMAGE, **weights)
    np.testing.assert_array_equal(labels, WITH_HOLE)


@pytest.mark.parametrize("distance", ["euclidean", "chebyshev"])
def test_energy_is_the_sum_over_pairs(distance) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=(4, 5)).astype(np.int32)
    unary = generator.normal(size=(4, 5, 3))
    image = generator.uniform(0, 255, size=(4, 5, 3)).astype(np.float32)
    mu = generator.uniform(size=(3, 3))
    mu = mu + mu.T
    np.fill_diagonal(mu, 0)
    found = energy(
        labels,
        unary,
        image,
        sigma_alpha=2.0,
        sigma_beta=90.0,
        sigma_gamma=1.5,
        w1=0.7,
        w2=0.3,
        compatibility=jnp.asarray(mu),
        distance=distance,
    )
    widths = {"alpha": 2.0, "beta": 90.0, "gamma": 1.5, "w1": 0.7, "w2": 0.3}
    expected = energy_by_pairs(labels, unary, image, distance=distance, mu=mu, **widths)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("distance", "self_included", "normalization", "steps"),
    [
        ("chebyshev", False, "none", {1: 0.768409, 2: 0.925921, 5: 0.933474}),
        ("euclidean", False, "none", {1: 0.629745, 2: 0.827411, 5: 0.842755}),
        ("euclidean", True, "none", {1: 0.255617, 5: 0.972406}),
        ("euclidean", True, "symmetric", {1: 0.075683, 5: 0.090455}),
        ("euclidean", True, "after", {1: 0.068914, 5: 0.077623}),
    ],
)
def test_centre_of_the_hole_step_by_step(
    distance, self_included, normalization, steps
) -> None:
    kernels = [
        make_kernel(
            ExactFilter(features, distance=distance, self_included=self_included),
            num_pixels=9,
            compatibility=1.0,
            normalization=normalization,
        )
        for features in (
            appearance_features(jnp.asarray(IMAGE), 1.0, 1.0),
            smoothness_features((3, 3), 1.0),
        )
    ]
    logits = jnp.log(PROBABILITY.reshape(9, 2))
    for count, expected in steps.items():
        found = mean_field(logits, kernels, num_iterations=count).marginals[4, 1]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_bad_input_is_one_sentence() -> None:
    unary = np.zeros((3, 3, 2))
    with pytest.raises(ValueError, match=r"unary has the shape \[3, 3, 2\] and image"):
        energy(FILLED, unary, IMAGE[:2], **ONES)
    with pytest.raises(ValueError, match=r"labels has the shape \[2, 3\]; allowed"):
        energy(FILLED[:2], unary, IMAGE, **ONES)
    with pytest.raises(ValueError, match=r"width is 0\.0; allowed is above 1e-06"):
        energy(FILLED, unary, IMAGE, **{**ONES, "sigma_gamma": 0.0})
    with pytest.raises(ValueError, match="w1 is nan; allowed are finite numbers"):
        energy(FILLED, unary, IMAGE, **{**ONES, "w1": float("nan")})
    with pytest.raises(ValueError, match=r"2\^25 labellings of 25 pixels; allowed"):
        minimize_energy(np.zeros((5, 5, 2)), np.zeros((5, 5, 1)), **ONES)
