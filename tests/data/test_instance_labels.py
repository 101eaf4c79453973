"""Classes made of the numbers of objects."""

import numpy as np
import pytest

from segjax.data.instance_labels import InstanceLabels, border_pixels
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError

BLACK = (0, 0, 0)
TWO = LabelSpec(("background", "cell"), (BLACK,) * 2)
THREE = LabelSpec(("background", "cell", "border"), (BLACK,) * 3)


def test_non_zero_is_an_object_whatever_its_number():
    raw = np.array([[0, 3, 70000, 0]], np.uint32)
    assert InstanceLabels(TWO).to_ids(raw, "a").tolist() == [[0, 1, 1, 0]]


def test_outlines_lie_inside_of_objects_and_part_those_that_touch():
    cells = np.zeros((9, 12), int)
    cells[2:7, 2:6], cells[2:7, 6:10] = 1, 2
    label = InstanceLabels(THREE, border_width=1).to_ids(cells, "a")
    assert ((label > 0) == (cells > 0)).all()
    assert (label[4] == [0, 0, 2, 1, 1, 2, 2, 1, 1, 2, 0, 0]).all()


def test_the_edge_of_the_image_is_no_outline():
    assert not border_pixels(np.ones((5, 5), int), 2).any()


@pytest.mark.parametrize("raw", [np.array([[-1, 2]]), np.array([[0.5, 1.0]])])
def test_what_numbers_no_objects_is_refused(raw):
    with pytest.raises(UserError, match=r"a\.png"):
        InstanceLabels(TWO).to_ids(raw, "a.png")
