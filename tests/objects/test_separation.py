"""Objects out of probabilities."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk

from segjax.objects.separation import Separation, separate


def probabilities(inside, border=None):
    planes = [inside] if border is None else [inside, border]
    return np.stack([1 - sum(planes), *planes], -1).astype(np.float32)


def disks(shape, middles, radius):
    mask = np.zeros(shape)
    for middle in middles:
        mask[disk(middle, radius, shape=shape)] = 1
    return mask


def test_disks_that_touch_are_parted_where_they_are_narrow():
    found = separate(
        probabilities(disks((40, 60), [(20, 18), (20, 38)], 11)), Separation()
    )
    assert found.max() == 2
    assert found[20, 18] != found[20, 38]
    assert (found[20, 10:27] == found[20, 18]).all()


def test_a_neck_less_deep_than_the_depth_parts_nothing():
    mask = probabilities(disks((40, 60), [(20, 24), (20, 32)], 11))
    assert separate(mask, Separation(depth=3.0)).max() == 1


def test_a_border_parts_what_is_not_narrow_and_belongs_to_objects():
    inside, border = np.zeros((20, 30)), np.zeros((20, 30))
    inside[4:16, 4:26], border[4:16, 14:16] = 1, 1
    inside[border > 0] = 0
    found = separate(probabilities(inside, border), Separation(border=2))
    assert found.max() == 2
    assert ((found > 0) == (inside + border > 0)).all()


def test_holes_are_filled_and_specks_are_dropped():
    mask = disks((40, 40), [(20, 20)], 12)
    mask[18:22, 18:22], mask[0, 0:3] = 0, 1
    found = separate(probabilities(mask), Separation(min_area=4))
    assert found.max() == 1
    assert (found > 0).sum() == ndimage.binary_fill_holes(mask).sum() - 3


def test_a_small_hole_parts_nothing():
    inside = disks((50, 50), [(25, 25)], 20)
    inside[20:24, 16:20] = inside[28:31, 28:32] = inside[24:27, 23:26] = 0
    border = (disks((50, 50), [(25, 25)], 20) > 0) & (inside == 0)
    assert separate(probabilities(inside, border), Separation(border=2)).max() == 1
    assert separate(probabilities(inside), Separation()).max() == 1


def test_background_in_a_corner_is_no_hole():
    inside = np.ones((30, 30))
    inside[:4, :4] = 0
    assert not separate(probabilities(inside), Separation())[:4, :4].any()


def test_a_slit_parts_as_thin_as_it_is():
    inside = np.zeros((30, 30))
    inside[5:25, 5:25] = 1
    inside[7:23, 15] = 0
    found = separate(probabilities(inside), Separation())
    assert found[15, 10] != found[15, 20]


@pytest.mark.parametrize("background", [0, 1])
def test_cells_that_fill_the_image_are_parted_by_their_borders(background):
    inside, border = np.ones((40, 40)), np.zeros((40, 40))
    border[19:21], border[:, 19:21] = 1, 1
    if background:
        inside[:5, :5] = 0
    inside[border > 0] = 0
    assert separate(probabilities(inside, border), Separation(border=2)).max() == 4


def test_what_is_above_a_low_threshold_is_an_object():
    inside = np.zeros((30, 60))
    inside[5:20, 5:20], inside[5:20, 35:50] = 0.25, 0.8
    assert separate(probabilities(inside), Separation(threshold=0.2)).max() == 2


def test_what_a_ring_of_objects_surrounds_is_not_theirs():
    ring = [
        (20 + 12 * np.sin(a), 20 + 12 * np.cos(a)) for a in np.arange(6) * np.pi / 3
    ]
    found = separate(probabilities(disks((42, 42), ring, 6.5)), Separation())
    assert found.max() == 6
    assert found[20, 20] == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_one_value_there_is_one_object_or_none(value):
    found = separate(probabilities(np.full((8, 8), value)), Separation())
    assert (found == value).all()


def test_an_object_that_is_all_of_a_small_image_is_a_speck_too():
    found = separate(probabilities(np.ones((4, 4))), Separation(min_area=17))
    assert not found.any()


@pytest.mark.parametrize(
    "arguments",
    [{"border": 0}, {"threshold": 1.0}, {"depth": 0.0}, {"min_area": -1}],
)
def test_values_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Separation(**arguments)
