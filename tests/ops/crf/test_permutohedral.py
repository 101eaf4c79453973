"""The lattice as it is built: weights, tables of vertices, and the room that it is given."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.crf import vertex_keys
from segjax.ops.crf.permutohedral import (
    CapacityError,
    lattice_size,
    permutohedral_lattice,
)
from segjax.ops.crf.vertex_keys import make_bitmap, make_sorted, place

DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 5])


@functools.cache
def features_of(d: int, number: int = 64) -> jax.Array:
    generator = np.random.default_rng(d)
    return jnp.asarray(generator.uniform(0, 3, (number, d)), jnp.float32)


@functools.cache
def lattice_of(d: int):
    return permutohedral_lattice(features_of(d))


def values_of() -> np.ndarray:
    return np.random.default_rng(9).normal(size=(64, 2)).astype(np.float32)


@DIMENSIONS
def test_weights_of_a_pixel_are_barycentric(d) -> None:
    weights = np.asarray(lattice_of(d).weights)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() >= -1e-6


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
    sampled = np.random.default_rng(by).integers(0, most, 10_000)
    x = np.concatenate([sampled, range(100), most - np.arange(100)]).astype(np.int32)
    quotient, rest = jax.jit(vertex_keys._divmod)(x, jnp.int32(by))
    np.testing.assert_array_equal(quotient, x // by)
    np.testing.assert_array_equal(rest, x % by)


def test_prefix_sums_in_two_levels() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 700).astype(np.int32)
    found = vertex_keys.exclusive_cumsum(jnp.asarray(counts))
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
    sampled = np.random.default_rng(0).uniform(-1, 1, (20, 2)) * far
    features = jnp.asarray(sampled, jnp.float32)
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
