"""Pictures of operators and fields: the right colours in the right places."""

import numpy as np
import pytest

from segjax.viz import (
    Field,
    Grid,
    origin_colors,
    plot_fields,
    plot_grids,
    plot_maps,
    plot_trees,
)
from segjax.viz.operators import HUES


def has(picture, color, tolerance=8):
    """How many pixels have a colour."""
    pixels = np.asarray(picture).astype(int)
    return int((np.abs(pixels - np.asarray(color)).max(-1) <= tolerance).sum())


def test_colors_are_those_of_the_origin_and_mix():
    weights = np.array([[[1, 0, 0.5, 0]], [[0, 1, 0.5, 0]]], float)
    one, two, both, none = origin_colors(weights)[0].astype(float)
    assert none.tolist() == [255, 255, 255]
    np.testing.assert_allclose(both, (one + two) / 2, atol=1)
    for color, hue in ((one, HUES[0]), (two, HUES[1])):
        away = 255 - color
        np.testing.assert_allclose(away * 100 / 85, 255.0 - hue, atol=2)


def test_more_gives_a_stronger_color():
    weak, strong = origin_colors(np.array([[[1.0, 4.0]]]))[0].astype(int)
    assert (strong < weak).any()
    assert (strong <= weak).all()


def test_more_pixels_than_hues_are_refused():
    with pytest.raises(ValueError, match="weights are of 10 pixels, but hues 9"):
        origin_colors(np.ones((10, 2, 2)))


def test_a_grid_has_its_cells_in_their_colors():
    colors = np.full((2, 3, 3), 255, np.uint8)
    colors[0, 1], colors[1] = (200, 40, 40), (40, 160, 90)
    picture = plot_grids(
        [[Grid(np.zeros((2, 3)), "map", colors), "=", Grid(np.eye(2))]]
    )
    red, green = has(picture, (200, 40, 40)), has(picture, (40, 160, 90))
    assert 900 < red < green
    assert green == pytest.approx(3 * red, rel=0.1)


def test_numbers_do_not_make_the_picture_larger_than_its_cells():
    small, large = (plot_grids([[Grid(np.full((2, n), 0.25))]]) for n in (2, 12))
    assert large.width > 4 * small.width
    assert large.height == small.height


def test_what_is_not_seen_is_grey_and_the_rectangle_is_dashed():
    gradient = np.zeros((20, 20))
    gradient[6:15, 6:15] = 1.0
    seen = plot_fields([Field("all", gradient, (6, 15), (6, 15), "note")])
    gradient[6:15:2] = 0.0
    holes = plot_fields([Field("holes", gradient, (6, 15), (6, 15), "note")])
    assert has(holes, (219, 219, 219)) > 2 * has(seen, (219, 219, 219))
    assert has(seen, (86, 180, 233)) > 200


def test_a_dilated_tree_reaches_further_than_a_plain_one():
    def reach(dilations):
        picture = np.asarray(plot_trees([("a", dilations), ("b", (1, 2, 4))]))
        left = picture[:, : picture.shape[1] // 2].astype(int)
        seen = np.abs(left - (213, 94, 0)).max(-1) < 8
        return np.ptp(np.flatnonzero(seen.any(0)))

    assert reach((1, 2, 4)) == pytest.approx(7 / 3 * reach((1, 1, 1)), rel=0.1)


def test_maps_are_side_by_side_with_crisp_pixels():
    board = np.indices((4, 4)).sum(0) % 2
    picture = plot_maps([("one", board), ("two", board)], colormap="gray", side=1.0)
    assert picture.width > 1.5 * picture.height
    assert has(picture, (0, 0, 0), 2) > 5000
    grey = plot_maps([("one", board)], colormap="gray", low=-1.0, side=1.0)
    assert has(grey, (128, 128, 128), 3) > 2500


@pytest.mark.parametrize("plot", [plot_grids, plot_fields, plot_maps, plot_trees])
def test_nothing_to_plot_is_reported(plot):
    with pytest.raises(ValueError, match=r"hold (nothing|no grid) to plot"):
        plot([])
