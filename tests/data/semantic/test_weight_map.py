import numpy as np
import pytest
from scipy.spatial.distance import cdist

from segjax.data.dataset import LazyPage, LazyRecord
from segjax.data.semantic.weight_map import (
    NEGLIGIBLE,
    BorderWeights,
    border_weight,
    cells_of,
)
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL


def two_bars(gap):
    """Two cells, 30 pixels wide each, that face each other across a straight gap."""
    row = np.concatenate([np.ones(30, int), np.zeros(gap, int), np.full(30, 2)])
    return np.tile(row, (40, 1))


def voronoi_cells(seed, size=(70, 90), count=12):
    """Cells of random shape, some touching, with background between and around them."""
    rng = np.random.default_rng(seed)
    pixels = np.argwhere(np.ones(size, bool))
    distances = np.sort(cdist(pixels, rng.uniform((0, 0), size, (count, 2))), axis=1)
    nearest = cdist(pixels, rng.uniform((0, 0), size, (count, 2))).argmin(axis=1) + 1
    outside = (distances[:, 1] - distances[:, 0] < 3) | (distances[:, 0] > 14)
    return np.where(outside, 0, nearest).reshape(size)


def naive_term(cells, w0, sigma):
    """The formula, word for word: every pixel against every border pixel of every cell."""
    pixels = np.argwhere(np.ones(cells.shape, bool))
    padded = np.pad(cells, 1, mode="edge")
    neighbours = [
        padded[2:, 1:-1],
        padded[:-2, 1:-1],
        padded[1:-1, 2:],
        padded[1:-1, :-2],
    ]
    at_border = np.any([n != cells for n in neighbours], axis=0)
    distances = []
    for number in set(cells[cells > 0].tolist()):
        border = np.argwhere(at_border & (cells == number))
        if len(border):
            distances.append(cdist(pixels, border).min(axis=1))
    nearest, second = np.sort(distances, axis=0)[:2]
    return (w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))).reshape(
        cells.shape
    )


@pytest.mark.parametrize(
    ("distance", "term"),
    [(2, 9.2312), (4, 7.2615), (5, 6.0653), (10, 1.3534), (15, 0.1111), (20, 0.0034)],
)
def test_middle_of_a_straight_gap_has_the_worked_weight(distance, term):
    cells = two_bars(gap=distance - 1)
    weight = border_weight(cells)
    np.testing.assert_allclose(weight[20][cells[20] == 0] - 1, term, atol=5e-5)


def test_borders_of_touching_cells_have_the_weight_of_distance_one():
    weight = border_weight(two_bars(gap=0), everywhere=True)
    np.testing.assert_allclose(weight[20, 29:31] - 1, 9.8020, atol=5e-5)


def test_weight_tends_to_w0_as_the_gap_vanishes_beside_sigma():
    weight = border_weight(two_bars(gap=1), w0=10, sigma=1e5)
    np.testing.assert_allclose(weight[:, 30], 11, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_weight_is_the_naive_one_wherever_it_is_not_negligible(seed, sigma):
    cells = voronoi_cells(seed)
    naive = naive_term(cells, 10.0, sigma)
    fast = border_weight(cells, sigma=sigma, everywhere=True) - 1
    counts = naive > NEGLIGIBLE
    assert 0.05 < counts.mean() < 0.95 or sigma == 5.0
    np.testing.assert_allclose(fast[counts], naive[counts], rtol=1e-4, atol=1e-6)
    assert (fast[~counts] >= 0).all()
    assert (fast[~counts] <= naive[~counts] + 1e-6).all()


def test_inside_of_cells_gets_no_border_weight_unless_asked_for():
    cells = voronoi_cells(0)
    weight, full = border_weight(cells), border_weight(cells, everywhere=True)
    assert (weight[cells > 0] == 1).all()
    np.testing.assert_array_equal(weight[cells == 0], full[cells == 0])
    assert full[cells > 0].max() > 5


@pytest.mark.parametrize("cells", [np.zeros((9, 9), int), np.ones((9, 9), np.uint8)])
def test_fewer_than_two_cells_leave_the_weight_at_one(cells):
    np.testing.assert_array_equal(border_weight(cells), 1)
    one = np.pad(cells, 3)
    np.testing.assert_array_equal(border_weight(one, everywhere=True), 1)


def test_numbers_of_cells_may_have_gaps():
    cells = voronoi_cells(1)
    renumbered = np.where(cells > 0, 1000 * cells**2 + 7, 0)
    np.testing.assert_array_equal(border_weight(cells), border_weight(renumbered))


def test_balance_gives_both_classes_the_same_sum_and_mean_one():
    cells = voronoi_cells(2)
    weight = border_weight(cells, w0=0, balance=True)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(
        weight[cells > 0].sum(), weight[cells == 0].sum(), rtol=1e-4
    )
    np.testing.assert_allclose(weight.mean(), 1, rtol=1e-5)
    np.testing.assert_array_equal(border_weight(cells * 0, w0=0, balance=True), 1)


def test_ignored_pixels_are_of_neither_class_when_weights_are_balanced():
    label = np.ones((10, 12), np.uint8)
    label[:, 3] = 0
    label[:, 6:] = IGNORE_LABEL
    weights = BorderWeights(w0=0, balance=True)
    weight = weights(0, {"label": label})
    counted = label != IGNORE_LABEL
    np.testing.assert_allclose(weight[label == 0], 6 / 2)
    np.testing.assert_allclose(weight[label == 1], 6 / 10)
    np.testing.assert_allclose(weight[counted].mean(), 1, rtol=1e-6)
    np.testing.assert_array_equal(weight[~counted], 1)


def test_image_of_nothing_but_ignored_pixels_has_weight_one():
    label = np.full((4, 5), IGNORE_LABEL, np.uint8)
    weights = BorderWeights(balance=True)
    np.testing.assert_array_equal(weights(0, {"label": label}), 1)


def test_balance_adds_to_the_border_term():
    cells = voronoi_cells(2)
    both = border_weight(cells, balance=True)
    apart = border_weight(cells) - 1 + border_weight(cells, w0=0, balance=True)
    np.testing.assert_allclose(both, apart, rtol=1e-6)


@pytest.mark.parametrize(
    ("cells", "arguments"),
    [
        (np.zeros((4, 4)), {}),
        (np.zeros((4, 4, 1), int), {}),
        (np.full((4, 4), -1), {}),
        (np.zeros((4, 4), int), {"sigma": 0}),
        (np.zeros((4, 4), int), {"w0": -1}),
        (np.zeros((4, 4), int), {"w0": np.inf}),
        (np.zeros((4, 4), int), {"sigma": np.nan}),
        (np.zeros((4, 4), int), {"ignored": np.zeros((4, 5), bool)}),
    ],
)
def test_bad_arguments_are_refused(cells, arguments):
    with pytest.raises(ValueError, match="must be"):
        border_weight(cells, **arguments)


def test_cells_that_touch_at_a_corner_are_two():
    label = np.array([[1, 1, 0], [0, 0, 1], [255, 1, 1]])
    np.testing.assert_array_equal(cells_of(label, 1), [[1, 1, 0], [0, 0, 2], [0, 2, 2]])
    assert cells_of(label, 0).max() == 2


def test_weights_of_a_record_come_from_its_class_or_from_its_own_cells():
    cells = two_bars(gap=3)
    label = np.where(cells > 0, 2, 0).astype(np.uint8)
    weights = BorderWeights(cell_class=2, sigma=4.0)
    expected = border_weight(cells, sigma=4.0)
    np.testing.assert_array_equal(weights(0, {"label": label}), expected)
    touching = two_bars(gap=0)
    own = weights(1, {"label": touching > 0, "cells": touching})
    np.testing.assert_array_equal(own, border_weight(touching, sigma=4.0))


def test_weights_are_kept_up_to_a_limit_and_the_oldest_goes_first():
    records = [{"label": two_bars(gap=g) > 0} for g in (1, 1, 1)]
    size = records[0]["label"].size * 4
    weights = BorderWeights(limit=2 * size)
    first, second = weights(0, records[0]), weights(1, records[1])
    assert weights(0, records[0]) is first
    weights(2, records[2])
    assert weights(0, records[0]) is first
    again = weights(1, records[1])
    assert again is not second
    np.testing.assert_array_equal(again, second)


@pytest.mark.parametrize("arguments", [{}, {"everywhere": True}, {"balance": True}])
def test_weights_of_a_window_have_the_bits_of_the_whole_page(arguments):
    cells = voronoi_cells(3, size=(120, 150), count=40)
    label = (cells > 0).astype(np.uint8)
    label[:5] = IGNORE_LABEL
    whole = BorderWeights(**arguments)(0, {"label": label, "cells": cells})
    read = []

    def page(values):
        def read_window(window):
            read.append(values[window or ...].size)
            return values[window or ...]

        return LazyPage(values.shape, read_window)

    record = LazyRecord({"label": page(label), "cells": page(cells)})
    part = BorderWeights(sigma=1.0, limit=0, **arguments)(0, record)
    expected = BorderWeights(sigma=1.0, **arguments)(
        0, {"label": label, "cells": cells}
    )
    np.testing.assert_array_equal(part[60:70, 90:110], expected[60:70, 90:110])
    # By balance the classes are counted over the page, once; else a window is read.
    assert (max(read) < cells.size / 10) != ("balance" in arguments)
    every = BorderWeights(limit=0, **arguments)(0, record)
    windows = [
        (a, b) for a in (slice(0, 50), slice(50, 120)) for b in (slice(40, 150),)
    ]
    for window in windows:
        np.testing.assert_array_equal(every[window], whole[window])


def test_misspelt_argument_is_answered_with_a_suggestion():
    with pytest.raises(UserError, match=r'border_weight .*sigme.*"sigma"'):
        BorderWeights(sigme=4.0)
    with pytest.raises(UserError, match=r"'ignored'\. Known: balance, cell_class"):
        BorderWeights(ignored=None)


@pytest.mark.parametrize("sigma", [-4.0, np.inf, "wide"])
def test_value_that_cannot_work_is_reported_with_its_key(sigma):
    with pytest.raises(UserError, match=r"config\.pipeline\.border_weight: "):
        BorderWeights(sigma=sigma)
