"""Boxes in SPP-net: against the release's formulas, counted from 1, and a loop."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.pooling.spatial_pyramid import spatial_pyramid_pool, spp_bins
from segjax.ops.pooling.spatial_pyramid_boxes import (
    RELEASED_SCALES,
    box_to_cells,
    nearest_scale,
    pyramid_pool_cells,
)

RNG = np.random.default_rng(0)
MAP = RNG.normal(size=(9, 7, 4)).astype(np.float32)
CELLS = np.array(
    [[0, 0, 9, 7], [2, 1, 8, 4], [4, 3, 5, 4], [8, 0, 9, 7], [1, 5, 9, 7]], np.int32
)
INVERTED: list[tuple[int, int]] = []
"""What the loop below met of boxes that came out inverted."""


def released(low, high, count):
    """One axis as in the release: pixels and cells from 1, ends included."""
    first = math.floor((low - 21 + 6.5) / 16 + 0.5) + 1
    last = math.ceil((high - 21 - 6.5) / 16 - 0.5) + 1
    if first > last:
        first = last = int((first + last) / 2)
        INVERTED.append((low, high))
    return [min(count, max(1, end)) for end in (first, last)]


def by_loop(x, cells, levels):
    vectors = []
    for top, left, bottom, right in cells:
        part, values = x[top:bottom, left:right], []
        for level in levels:
            for y0, y1 in spp_bins(int(bottom - top), level):
                for x0, x1 in spp_bins(int(right - left), level):
                    values.append(part[y0:y1, x0:x1].max((0, 1)))
        vectors.append(np.concatenate(values))
    return np.stack(vectors)


def test_cells_are_those_of_the_release():
    height, width = 20, 31
    start = RNG.integers(-20, 480, size=(300, 2))
    extent = RNG.integers(1, 1 + RNG.integers(1, 300, size=(300, 1)), size=(300, 2))
    boxes = np.concatenate([start, start + extent], 1)
    INVERTED.clear()
    expected = []
    for y0, x0, y1, x1 in boxes.tolist():
        top, bottom = released(y0 + 1, y1, height)
        left, right = released(x0 + 1, x1, width)
        expected.append([top - 1, left - 1, bottom, right])
    found = jax.jit(functools.partial(box_to_cells, size=(height, width)))(
        jnp.asarray(boxes, jnp.float32)
    )
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)
    assert (found[:, :2] < found[:, 2:]).all()
    assert len(INVERTED) > 10


def test_an_inverted_box_becomes_the_cell_in_the_middle():
    boxes = jnp.array([[134.0, 134.0, 135.0, 135.0], [118.0, 139.0, 119.0, 140.0]])
    found = box_to_cells(boxes, size=(13, 13))
    assert found.tolist() == [[7, 7, 8, 8], [6, 7, 7, 8]]


def test_a_box_outside_of_the_map_becomes_a_cell_of_its_border():
    boxes = jnp.array([[-900.0, -900.0, -800.0, -800.0], [900.0, 0.0, 950.0, 60.0]])
    found = box_to_cells(boxes, size=(13, 10))
    assert found.tolist() == [[0, 0, 1, 1], [12, 0, 13, 3]]


@pytest.mark.parametrize("levels", [(3, 1), (6,)])
def test_a_rectangle_is_pooled_like_a_map_of_its_own(levels):
    pool = jax.jit(functools.partial(pyramid_pool_cells, levels=levels))
    found = pool(MAP, CELLS)
    np.testing.assert_array_equal(found, by_loop(MAP, CELLS, levels))


def test_maps_of_several_images_are_pooled_by_vmap():
    maps = np.stack([MAP, -MAP])
    cells = np.stack([CELLS, CELLS[::-1]])
    pool = jax.vmap(functools.partial(pyramid_pool_cells, levels=(2,)))
    found = jax.jit(pool)(maps, cells)
    for i in range(2):
        np.testing.assert_array_equal(found[i], by_loop(maps[i], cells[i], (2,)))


def test_the_gradient_is_that_of_pooling_the_rectangle_alone():
    levels = (2, 1)
    x = jnp.asarray(np.round(MAP), jnp.float32)  # of many ties
    direction = RNG.normal(size=(1, 20)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(x, alone):
        def total(x):
            if alone:
                pooled = spatial_pyramid_pool(x[None, 2:8, 1:4], levels=levels)
            else:
                pooled = pyramid_pool_cells(x, CELLS[1:2], levels=levels)
            return (pooled * direction).sum()

        return jax.grad(total)(x)

    expected = gradient(x, True)
    assert expected.any()
    np.testing.assert_allclose(gradient(x, False), expected, rtol=1e-6)


def test_half_precision_and_infinite_values_are_kept():
    x = jnp.array([[-jnp.inf, 2.0], [-jnp.inf, jnp.inf]], jnp.bfloat16)[..., None]
    found = pyramid_pool_cells(x, jnp.array([[0, 0, 2, 2]]), levels=(2, 1))
    assert found.dtype == jnp.bfloat16
    assert found[0].tolist() == [-np.inf, 2.0, -np.inf, np.inf, np.inf]


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_what_is_outside_of_a_rectangle_does_not_stand_in_for_it(value):
    x = MAP.copy()
    x[4:, 3:] = value
    pool = jax.jit(functools.partial(pyramid_pool_cells, levels=(2,)))
    found = pool(x, np.array([[4, 3, 8, 7], [3, 2, 9, 4]], np.int32)).reshape(2, 4, 4)
    np.testing.assert_array_equal(found[0], np.full((4, 4), value))
    np.testing.assert_array_equal(found[1, 0], x[3:6, 2].max(0))


def test_the_scale_is_the_one_with_an_area_closest_to_224_squared():
    image_size = (333, 500)
    start = RNG.uniform(0, 100, size=(200, 2))
    boxes = np.concatenate([start, start + RNG.uniform(20, 230, size=(200, 2))], 1)
    expected = []
    for y0, x0, y1, x1 in boxes.tolist():
        areas = [(y1 - y0) * (x1 - x0) * (s / 333) ** 2 for s in RELEASED_SCALES]
        expected.append(int(np.argmin([abs(a - 224**2) for a in areas])))
    choose = jax.jit(functools.partial(nearest_scale, image_size=image_size))
    found = choose(jnp.asarray(boxes, jnp.float32))
    np.testing.assert_array_equal(found, expected)
    assert set(expected) == set(range(5))


def test_the_releases_choice_is_the_same_scale_or_a_smaller_one():
    extent = RNG.uniform(10, 375, size=(2000, 2)).astype(np.float32)
    boxes = jnp.concatenate([jnp.zeros((2000, 2)), jnp.asarray(extent)], 1)
    found = np.asarray(nearest_scale(boxes, image_size=(375, 500)))
    wanted = np.floor(208 * 375 / np.sqrt(extent.prod(1)) + 0.5)
    distance = np.abs(np.array(RELEASED_SCALES)[None] - wanted[:, None])
    theirs = distance.argmin(1)
    assert (theirs <= found).all()
    assert 0.8 < (theirs == found).mean() < 0.95


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: box_to_cells(jnp.zeros(4), size=(3, 3)), r"boxes is \(4,\)"),
        (lambda: box_to_cells(jnp.zeros((1, 4)), size=(0, 3)), r"size is \(0, 3\)"),
        (
            lambda: nearest_scale(jnp.zeros((1, 4)), image_size=(3, 3), scales=()),
            r"scales \(\)",
        ),
        (lambda: nearest_scale(jnp.zeros((1, 3)), image_size=(3, 3)), "boxes is"),
        (lambda: pyramid_pool_cells(MAP[None], CELLS), r"x is float32 \(1, 9, 7, 4\)"),
        (lambda: pyramid_pool_cells(MAP, CELLS * 1.0), "cells is float64"),
        (lambda: pyramid_pool_cells(MAP, CELLS, levels=()), "levels is empty"),
    ],
)
def test_what_is_no_box_and_no_map_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
