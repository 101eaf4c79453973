"""Objects rendered onto their image."""

import numpy as np
import pytest

from segjax.viz.instances import COLORS, OPACITY, plot_instances


def test_masks_are_tinted_and_boxes_outlined_where_they_are():
    image = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 20:30, 30:50] = True
    picture = np.asarray(
        plot_instances(image, np.array([[20, 30, 30, 50]]), [1], ("", ""), masks=mask)
    )
    expected = (1 - OPACITY) * 100 + OPACITY * np.array(COLORS[0])
    np.testing.assert_allclose(picture[25, 40], expected, atol=1)
    assert tuple(picture[20, 35]) == COLORS[0]
    assert (picture[:19] == 100).all()


def test_points_that_are_not_labelled_are_not_plotted():
    image = np.zeros((40, 40, 1), np.uint8)
    points = np.array([[[10, 10, 2], [30, 30, 0]]], np.float32)
    box = np.array([[0, 0, 39, 39]])
    picture = np.asarray(
        plot_instances(image, box, [0], ("",), keypoints=points, skeleton=((0, 1),))
    )
    assert picture[10, 10].any()
    assert not picture[30, 30].any()
    assert not picture[20, 20].any()


def test_zoom_makes_the_picture_larger_and_counts_have_to_agree():
    image = np.zeros((10, 12, 3), np.uint8)
    assert plot_instances(image, np.zeros((0, 4)), [], (), zoom=3).size == (36, 30)
    with pytest.raises(ValueError, match=r"^classes are 2 for 1 boxes"):
        plot_instances(image, np.zeros((1, 4)), [1, 2], ("", "", ""))
