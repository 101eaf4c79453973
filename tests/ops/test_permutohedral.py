"""The lattice beside its definition, its transpose, and the room that it is given."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import lattice_filter as filtering
from segjax.ops import lattice_keys
from segjax.ops.lattice_filter import PAIRED_CHANNELS, lattice_filter
from segjax.ops.lattice_keys import make_bitmap, make_sorted, place
from segjax.ops.permutohedral import (
    CapacityError,
    lattice_size,
    permutohedral_lattice,
)

DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 5])


@functools.cache
def features_of(d: int, number: int = 64) -> jax.Array:
    generator = np.random.default_rng(d)
    return jnp.asarray(generator.uniform(0, 3, (number, d)), jnp.float32)


@functools.cache
def lattice_of(d: int):
    return permutohedral_lattice(features_of(d))


def values_of(number: int = 64, channels: int = 2) -> np.ndarray:
    drawn = np.random.default_rng(9).normal(size=(number, channels))
    return drawn.astype(np.float32)


def lattice_by_definition(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al. 2010 with a dictionary of vertices, pixel by pixel, in float64."""
    number, d = features.shape
    elevation = np.zeros((d + 1, d))
    for j in range(1, d + 1):
        elevation[:j, j - 1] = 1
        elevation[j, j - 1] = -j
        elevation[:, j - 1] *= np.sqrt(2 / 3) * (d + 1) / np.sqrt(j * (j + 1))
    shares, sums = [], {}
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
        shares.append(corners)
    for axis in range(d + 1):
        step = np.ones(d + 1, int)
        step[axis] = -d
        blurred = {}
        for key, value in sums.items():
            near = (tuple(key + step), tuple(key - step))
            blurred[key] = value + sum(0.5 * sums.get(k, 0) for k in near)
        sums = blurred
    alpha = 1 / (1 + 2.0**-d)
    return np.stack([sum(alpha * w * sums[k] for k, w in c) for c in shares])


@DIMENSIONS
@pytest.mark.parametrize("channels", [1, PAIRED_CHANNELS[0], PAIRED_CHANNELS[-1] + 1])
def test_lattice_is_that_of_the_definition(d, channels) -> None:
    x = values_of(channels=channels)
    expected = lattice_by_definition(np.asarray(features_of(d)), x)
    np.testing.assert_allclose(lattice_of(d)(x), expected, atol=2e-5)


@pytest.mark.parametrize("most", [1, 60, 64 * 4 * 2 - 8])
def test_splat_in_parts_is_the_whole(monkeypatch, most: int) -> None:
    """Parts of one pixel, parts that do not fit the pixels, all but one pixel."""
    x, lattice = values_of(), lattice_of(3)
    expected = filtering._splat(lattice, x)
    monkeypatch.setattr(filtering, "SPLAT_VALUES", most)
    found = filtering._splat(lattice, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA for CPUs fuses")
@pytest.mark.parametrize("channels", [2, 21])
def test_no_blur_is_computed_within_another(channels) -> None:
    """Chained gathers would be fused, and the first of six read 3^5 times a vertex."""
    run = jax.jit(lambda lattice, x: lattice(x))
    compiled = run.lower(lattice_of(5), values_of(channels=channels)).compile()
    passes = 3 if channels in PAIRED_CHANNELS else 6
    assert compiled.as_text().count(" conditional(") == passes


@DIMENSIONS
def test_shares_of_a_pixel_are_barycentric(d) -> None:
    weights = np.asarray(lattice_of(d).weights)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() >= -1e-6


@DIMENSIONS
@pytest.mark.parametrize("channels", [2, PAIRED_CHANNELS[0]])
def test_transpose_has_the_blurs_in_reverse(d, channels) -> None:
    x = jnp.asarray(values_of(channels=channels))
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
def test_factors_of_pixels_go_into_the_shares(same: bool) -> None:
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


def test_bitmap_and_sorting_number_vertices_alike() -> None:
    places = jax.jit(place)(features_of(5))
    others = jnp.arange(0, int(places.cells), 7, dtype=jnp.int32)

    @functools.partial(jax.jit, static_argnums=2)
    def numbered(places, others, cells):
        tables = make_bitmap(places, cells), make_sorted(places, 384)
        return [(t.count, t.find(places.keys), t.has(others)) for t in tables]

    bitmap, ordered = numbered(places, others, int(places.cells))
    for found, expected in zip(bitmap, ordered, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("by", [1, 2, 3, 7, 100, 12_345, 2**20, 3 * 10**8])
def test_division_of_keys_is_exact(by: int) -> None:
    most = 2**31 // 3  # Of two vertices each, in one dimension.
    drawn = np.random.default_rng(by).integers(0, most, 10_000)
    x = np.concatenate([drawn, range(100), most - np.arange(100)]).astype(np.int32)
    quotient, rest = jax.jit(lattice_keys._divmod)(x, jnp.int32(by))
    np.testing.assert_array_equal(quotient, x // by)
    np.testing.assert_array_equal(rest, x % by)


def test_prefix_sums_in_two_levels() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 700).astype(np.int32)
    found = lattice_keys._prefix(jnp.asarray(counts))
    np.testing.assert_array_equal(found, np.cumsum(counts) - counts)


def test_too_few_vertices_are_an_error_that_names_how_many() -> None:
    needed, cells = lattice_size(features_of(3))
    assert needed == int(lattice_of(3).count)
    with pytest.raises(CapacityError, match=f"is 5; this image needs {needed}"):
        permutohedral_lattice(features_of(3), max_vertices=5)
    with pytest.raises(CapacityError, match=f"is 7; this image needs {cells} cells"):
        permutohedral_lattice(features_of(3), table_size=7)
    exact = permutohedral_lattice(features_of(3), max_vertices=needed, table_size=cells)
    x = values_of()
    np.testing.assert_allclose(exact(x), lattice_of(3)(x), atol=1e-5)


def test_too_little_room_under_jit_is_nan_and_enough_is_not() -> None:
    needed, cells = lattice_size(features_of(2))

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def filtered(features, max_vertices, table_size):
        lattice = permutohedral_lattice(
            features, max_vertices=max_vertices, table_size=table_size
        )
        return lattice(values_of())

    expected = lattice_of(2)(values_of())
    for sizes in ((needed, cells), (None, None)):
        np.testing.assert_allclose(
            filtered(features_of(2), *sizes), expected, atol=1e-5
        )
    for sizes in ((needed - 1, None), (needed, cells - 1)):
        assert np.isnan(filtered(features_of(2), *sizes)).all()


@pytest.mark.parametrize("far", [3e9, 3e38])
def test_features_too_far_out_for_whole_numbers_are_never_silent(far: float) -> None:
    drawn = np.random.default_rng(0).uniform(-1, 1, (20, 2)) * far
    features = jnp.asarray(drawn, jnp.float32)
    with pytest.raises(CapacityError, match="cells; allowed are"):
        permutohedral_lattice(features)

    @jax.jit
    def run(features):
        return permutohedral_lattice(features)(jnp.ones((20, 1)))

    assert np.isnan(run(features)).all()


def test_more_cells_than_32_bits_number_are_an_error() -> None:
    features = jnp.asarray(np.random.default_rng(0).uniform(0, 900, (8, 5)))
    with pytest.raises(CapacityError, match=r"the lattice has .* cells; allowed are"):
        permutohedral_lattice(features)
    with pytest.raises(CapacityError, match="finite features"):
        permutohedral_lattice(features_of(2).at[0, 0].set(jnp.nan))


@pytest.mark.parametrize(("d", "number"), [(1, 5), (2, 1), (3, 7)])
def test_pixels_all_alike_share_one_simplex(d, number) -> None:
    lattice = permutohedral_lattice(jnp.full((number, d), 0.3))
    assert int(lattice.count) == d + 1
    rows = lattice(jnp.ones((number, 1)))
    np.testing.assert_allclose(rows, float(rows[0, 0]), rtol=1e-6)


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"features has the shape \[0, 2\]; allowed"):
        permutohedral_lattice(jnp.zeros((0, 2)))
    with pytest.raises(ValueError, match="max_vertices is 0; allowed is 1 or more"):
        permutohedral_lattice(jnp.zeros((4, 2)), max_vertices=0)
