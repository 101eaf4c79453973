"""The warping error against a slow warping that counts components of the whole map."""

import time

import numpy as np
import pytest
from scipy import ndimage

from segjax.metrics.warping import simple_neighbourhoods, warp, warping_error

EIGHT = np.ones((3, 3))


def components(cells):
    """Numbers of 4-connected cells and 8-connected pieces of membrane."""
    padded = np.pad(cells, 1)
    return ndimage.label(padded)[1], ndimage.label(~padded, EIGHT)[1]


def warp_one_by_one(truth, prediction):
    """Flips pixel after pixel, where no component of the whole map comes or goes."""
    warped, changed = truth.copy(), True
    while changed:
        changed = False
        # The outer frame of `warp` shifts the parity of the subfields by one.
        for first in ((1, 1), (1, 0), (0, 1), (0, 0)):
            for row in range(first[0], truth.shape[0], 2):
                for column in range(first[1], truth.shape[1], 2):
                    if warped[row, column] == prediction[row, column]:
                        continue
                    before = components(warped)
                    warped[row, column] ^= True
                    if components(warped) == before:
                        changed = True
                    else:
                        warped[row, column] ^= True
    return warped


def two_cells(column=8, side=16):
    cells = np.ones((side, side), bool)
    cells[:, column] = False
    return cells


def test_116_of_the_256_neighbourhoods_are_simple():
    assert simple_neighbourhoods().sum() == 116


def test_a_neighbourhood_is_simple_if_no_component_comes_or_goes():
    for code, simple in enumerate(simple_neighbourhoods()):
        bits = [code >> k & 1 for k in range(8)]
        patch = np.array([*bits[:4], 0, *bits[4:]], bool).reshape(3, 3)
        # Membrane around it is connected within the patch only, cells by the centre.
        flipped = patch.copy()
        flipped[1, 1] = True
        cells_near = ndimage.label(patch)[0][[0, 1, 1, 2], [1, 0, 2, 1]]
        ring = ~patch
        ring[1, 1] = False
        touched = len(set(cells_near[cells_near > 0]))
        assert simple == (touched == 1 and ndimage.label(ring, EIGHT)[1] == 1), code


@pytest.mark.parametrize("seed", range(12))
def test_warping_is_that_of_a_slow_sequential_reference(seed):
    rng = np.random.default_rng(seed)
    blur = lambda: ndimage.gaussian_filter(rng.normal(size=(15, 18)), seed % 3 * 0.6)
    truth, prediction = blur() > 0, blur() > 0
    np.testing.assert_array_equal(
        warp(truth, prediction), warp_one_by_one(truth, prediction)
    )


@pytest.mark.parametrize("seed", range(4))
def test_warping_keeps_the_number_of_cells_and_of_membranes(seed):
    rng = np.random.default_rng(seed)
    random_blobs = lambda: ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) > 0
    truth, prediction = random_blobs(), random_blobs()
    warped = warp(truth, prediction)
    assert components(warped) == components(truth)
    assert np.sum(warped != prediction) < np.sum(truth != prediction)
    assert np.all((warped == truth) | (warped == prediction))


def test_identical_maps_have_no_error_and_inputs_stay_as_they_are():
    cells = two_cells()
    before = cells.copy()
    assert warping_error(cells, cells) == 0
    warp(cells, two_cells(3))
    np.testing.assert_array_equal(cells, before)


@pytest.mark.parametrize("column", [7, 9])
def test_a_membrane_shifted_by_its_width_costs_nothing(column):
    assert warping_error(two_cells(), two_cells(column)) == 0


def test_a_membrane_shifted_farther_than_its_width_cannot_jump():
    assert warping_error(two_cells(), two_cells(4)) == (16 + 1) / 256


def test_a_thicker_membrane_costs_nothing():
    thick = two_cells() & two_cells(7) & two_cells(9)
    assert warping_error(two_cells(), thick) == 0
    assert warping_error(thick, two_cells()) == 0


@pytest.mark.parametrize("pixels", [1, 3])
def test_a_gap_costs_its_pixels(pixels):
    gap = two_cells()
    gap[6 : 6 + pixels, 8] = True
    # All but one pixel of the membrane that is left may be moved into the gap.
    assert warping_error(two_cells(), gap) == pixels / 256


def test_a_split_costs_the_pixels_of_the_dividing_line():
    one = np.ones((16, 16), bool)
    assert warping_error(one, two_cells()) == 1 / 256
    assert warping_error(two_cells(), one) > 0


def test_a_lost_cell_and_an_invented_one_cost_a_pixel_each():
    none = np.zeros((9, 9), bool)
    cell = none.copy()
    cell[3:6, 3:6] = True
    assert warping_error(cell, none) == 1 / 81
    assert warping_error(none, cell) == 9 / 81


def test_a_diagonal_line_of_membrane_separates_two_cells():
    whole = np.ones((8, 8), bool)
    diagonal = ~np.eye(8, dtype=bool)
    assert components(diagonal)[0] == 2
    assert warping_error(whole, diagonal) > 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 5\)"):
        warping_error(np.ones((4, 4)), np.ones((4, 5)))


@pytest.mark.parametrize("kind", ["noise", "inverse", "nothing"])
def test_the_worst_512_by_512_takes_no_minutes(kind):
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.normal(size=(512, 512)), 6) > -0.01
    noise = rng.random(truth.shape) > 0.5
    worst = {"noise": noise, "inverse": ~truth, "nothing": np.zeros_like(truth)}
    start = time.process_time()
    warping_error(truth, worst[kind])
    assert time.process_time() - start < 5  # measured: 0.3 at most
