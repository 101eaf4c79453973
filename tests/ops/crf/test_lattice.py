"""Filtering over a lattice beside its definition, its transpose, and its parts."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.forms import lowering_for
from segjax.ops.crf import lattice as filtering
from segjax.ops.crf.inference import make_kernel, mean_field
from segjax.ops.crf.lattice import PAIRED_CHANNELS, LatticeFilter, lattice_filter
from segjax.ops.crf.permutohedral import permutohedral_lattice

PIXELS = 64
DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 5])
CPU_ONLY = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="how XLA for CPUs fuses"
)


@functools.cache
def features_of(d: int) -> jax.Array:
    generator = np.random.default_rng(d)
    return jnp.asarray(generator.uniform(0, 3, (PIXELS, d)), jnp.float32)


@functools.cache
def lattice_of(d: int) -> LatticeFilter:
    return permutohedral_lattice(features_of(d))


def values_of(channels: int = 2) -> np.ndarray:
    sampled = np.random.default_rng(9).normal(size=(PIXELS, channels))
    return sampled.astype(np.float32)


def lattice_by_definition(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al. 2010 with a dictionary of vertices, pixel by pixel, in float64."""
    number, d = features.shape
    elevation = np.zeros((d + 1, d))
    for j in range(1, d + 1):
        elevation[:j, j - 1] = 1
        elevation[j, j - 1] = -j
        elevation[:, j - 1] *= np.sqrt(2 / 3) * (d + 1) / np.sqrt(j * (j + 1))
    weights, sums = [], {}
    for i in range(number):
        point = elevation @ features[i]
        origin = np.round(point / (d + 1)) * (d + 1)
        rest = point - origin
        order = np.argsort(np.argsort(-rest, kind="stable"), kind="stable")
        order = order + int(origin.sum() / (d + 1))
        origin += (d + 1) * ((order < 0).astype(int) - (order > d))
        order = order % (d + 1)
        rest = (point - origin) / (d + 1)
        weight = np.zeros(d + 2)
        for c in range(d + 1):
            weight[d - order[c]] += rest[c]
            weight[d + 1 - order[c]] -= rest[c]
        weight[0] += 1 + weight[d + 1]
        corners = []
        for k in range(d + 1):
            corner = origin + np.where(order <= d - k, k, k - d - 1)
            key = tuple(corner.astype(int))
            corners.append((key, weight[k]))
            sums[key] = sums.get(key, 0) + weight[k] * values[i]
        weights.append(corners)
    for axis in range(d + 1):
        step = np.ones(d + 1, int)
        step[axis] = -d
        blurred = {}
        for key, value in sums.items():
            near = (tuple(key + step), tuple(key - step))
            blurred[key] = value + sum(0.5 * sums.get(k, 0) for k in near)
        sums = blurred
    alpha = 1 / (1 + 2.0**-d)
    return np.stack([sum(alpha * w * sums[k] for k, w in c) for c in weights])


@DIMENSIONS
@pytest.mark.parametrize("channels", [1, PAIRED_CHANNELS[0], PAIRED_CHANNELS[-1] + 1])
def test_lattice_is_that_of_the_definition(d, channels) -> None:
    x = values_of(channels)
    expected = lattice_by_definition(np.asarray(features_of(d)), x)
    np.testing.assert_allclose(lattice_of(d)(x), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("most", "sizes"), [(8, 1), (60, 7), (8 * 63, 32)], ids=["one", "seven", "halves"]
)
def test_splat_in_parts_is_the_whole(monkeypatch, most: int, sizes: int) -> None:
    """Parts of one pixel, of seven, of which the last two overlap, and halves."""
    x, lattice = values_of(), lattice_of(3)
    poisoned = dataclasses.replace(lattice, weights=lattice.weights.at[5].set(jnp.nan))
    expected = [filtering.splat(one, x) for one in (lattice, poisoned)]
    assert -(-PIXELS // -(-PIXELS // (most // 8))) == sizes
    monkeypatch.setattr(filtering, "SPLAT_VALUES", most)
    found = [filtering.splat(one, x) for one in (lattice, poisoned)]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found[1]), np.isnan(expected[1]))


def test_values_may_have_no_channel_and_be_integers() -> None:
    lattice = lattice_of(2)
    assert lattice(jnp.zeros((PIXELS, 0))).shape == (PIXELS, 0)
    whole = jnp.arange(PIXELS)[:, None]
    np.testing.assert_allclose(lattice(whole), lattice(whole * 1.0), rtol=1e-6)


@CPU_ONLY
@pytest.mark.parametrize("channels", [2, 21])
def test_no_blur_is_computed_within_another(channels) -> None:
    """Chained gathers would be fused, and the first of six read 3^5 times a vertex."""
    run = jax.jit(lambda lattice, x: lattice(x))
    compiled = run.lower(lattice_of(5), values_of(channels)).compile().as_text()
    passes = 3 if channels in PAIRED_CHANNELS else 6
    assert compiled.count(" conditional(") == passes


@CPU_ONLY
def test_no_slice_is_computed_within_the_softmax() -> None:
    """It reads each logit three times: for the maximum, the sum and the result."""
    kernel = make_kernel(lattice_of(5), num_pixels=PIXELS, compatibility=1.0)
    run = jax.jit(lambda x, kernel: mean_field(x, [kernel], num_iterations=2).marginals)
    compiled = run.lower(values_of(), kernel).compile().as_text()
    assert compiled.count(" conditional(") == 7


@pytest.mark.parametrize("reverse", [False, True])
@DIMENSIONS
def test_accelerators_blur_alike(d: int, reverse: bool) -> None:
    """They loop over the axes; that form is run on this backend, too."""
    x, lattice = values_of(PAIRED_CHANNELS[0]), lattice_of(d)
    expected = lattice_filter(lattice, x, reverse=reverse)
    with lowering_for("cuda"):
        found = lattice_filter(lattice, x, reverse=reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@DIMENSIONS
@pytest.mark.parametrize("channels", [2, PAIRED_CHANNELS[0]])
def test_transpose_has_the_blurs_in_reverse(d, channels) -> None:
    x = jnp.asarray(values_of(channels))
    y = jnp.asarray(np.random.default_rng(8).normal(size=x.shape), jnp.float32)
    there = lattice_filter(lattice_of(d), x)
    back = lattice_filter(lattice_of(d), y, reverse=True)
    same_order = lattice_filter(lattice_of(d), y)
    scale = float(jnp.linalg.norm(there) * jnp.linalg.norm(y))
    assert abs(float(jnp.vdot(there, y) - jnp.vdot(x, back))) <= 1e-6 * scale
    assert abs(float(jnp.vdot(there, y) - jnp.vdot(x, same_order))) > 1e-4 * scale


def test_gradient_to_values_is_the_transpose() -> None:
    x, lattice = jnp.asarray(values_of()), lattice_of(3)
    gradient = jax.vjp(lattice, x)[1](x)[0]
    expected = lattice_filter(lattice, x, reverse=True)
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("same", [False, True])
def test_factors_of_pixels_go_into_the_weights(same: bool) -> None:
    x, lattice = jnp.asarray(values_of()), lattice_of(3)
    rng = np.random.default_rng(9)
    before, after = jnp.asarray(rng.uniform(0.5, 2, (2, len(x), 1)), jnp.float32)
    after = before if same else after
    scaled = lattice.scaled(before, after)
    expected = after * lattice(before * x)
    np.testing.assert_allclose(scaled(x), expected, rtol=1e-5, atol=1e-5)
    twice = scaled.scaled(after, None).scaled(None, before)
    expected = before * after * lattice(before * after * x)
    np.testing.assert_allclose(twice(x), expected, rtol=1e-5, atol=1e-5)
    gradient = jax.vjp(scaled, x)[1](x)[0]
    expected = before * lattice_filter(lattice, after * x, reverse=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_no_gradient_goes_to_the_features() -> None:
    @jax.jit
    def loss(features):
        return jnp.square(permutohedral_lattice(features)(values_of())).sum()

    np.testing.assert_array_equal(jax.grad(loss)(features_of(2)), 0)
