"""Pages along the axes of a file."""

import pytest

from segjax.data.files.layout import UNSTATED, Layout
from segjax.data.outlines import place_of


@pytest.mark.parametrize(
    ("axes", "sizes", "expected"),
    [
        ("TZ", (3, 1), [1, 1]),  # a time series of an OME-Zarr in 5-D
        ("TZ", (1, 3), [1, 1]),
        ("TZ", (2, 2), [1, 0, 1]),
        ("I", (3,), [0, 0]),
        ("IZ", (2, 2), [1, 0, 1]),
        ("", (), [1, 1]),
    ],
)
def test_pages_follow_each_other_along_time_or_depth(axes, sizes, expected):
    layout = Layout(axes=axes, sizes=sizes)
    found = [layout.follows(i, i - 1) for i in range(1, len(expected) + 1)]
    assert found == [bool(value) for value in expected]


def test_only_the_next_page_follows():
    assert not UNSTATED.follows(0, -1)
    assert not UNSTATED.follows(8, 0)
    assert not UNSTATED.follows(3, 3)


def test_images_that_are_apart_have_no_slice_by_which_to_find_them():
    assert place_of(3, Layout(axes="IZ", sizes=(2, 2))) is None
    assert place_of(2, Layout(axes="TZ", sizes=(3, 1))) == (0, 2)
