"""Outlines of label images, and what they enclose."""

import numpy as np
import pytest

from segjax.data.files.layout import Layout
from segjax.data.outlines import Outline, fill, outlines_of, page_of, place_of
from segjax.errors import UserError


def painted(outlines, size):
    label = np.zeros(size, int)
    for outline in outlines:
        place, mask = fill(outline, size, "a.roi")
        label[place][mask] = int(outline.name)
    return label


@pytest.mark.parametrize("seed", range(30))
def test_outlines_enclose_the_pixels_that_they_were_made_of(seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 3, rng.integers(1, 15, 2))  # full of holes and corners
    found = list(outlines_of(numbers))
    np.testing.assert_array_equal(painted(found, numbers.shape), numbers)
    for ring in (r for x in found for polygon in x.polygons for r in polygon):
        assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)


def test_holes_follow_the_ring_around_them():
    numbers = np.ones((5, 5), int)
    numbers[1, 1] = numbers[2, 2] = 0  # which touch at a corner
    (outline,) = outlines_of(numbers, page=2, class_names={1: "tissue"})
    assert (outline.name, outline.page, outline.class_name) == ("1", 2, "tissue")
    ((ring, *holes),) = outline.polygons
    assert len(ring) == 4
    assert [len(hole) for hole in holes] == [4, 4]


def test_fractions_of_pixels_count_by_the_centres():
    ring = np.array([[0.4, 0.4], [2.6, 0.4], [2.6, 1.2], [0.4, 1.2]])
    place, mask = fill(Outline(((ring,),)), (4, 8), "a.roi")
    label = np.zeros((4, 8), bool)
    label[place] = mask
    assert np.argwhere(label).tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize(("axes", "sizes"), [("TZ", (2, 3)), ("Z", (6,)), ("T", (6,))])
def test_pages_are_slices_and_frames_of_the_axes(axes, sizes):
    layout = Layout(axes=axes, sizes=sizes)
    for page in range(6):
        outline = Outline((), place=place_of(page, layout))
        assert page_of(outline, layout, "a.roi") == page


@pytest.mark.parametrize(
    ("place", "axes", "sizes"),
    [((3, 0), "TZ", (2, 3)), ((0, 1), "Z", (6,)), ((1, 1), "", ())],
)
def test_a_slice_that_is_not_there_is_a_sentence(place, axes, sizes):
    with pytest.raises(UserError, match=r"a.roi has the outline '' on slice .* has "):
        page_of(Outline((), place=place), Layout(axes=axes, sizes=sizes), "a.roi")


@pytest.mark.parametrize(
    ("corner", "sentence"),
    [
        (
            (90, 3),
            r"a.roi has the outline 'x', which lies outside of the image \(4 high",
        ),
        ((-9, -9), r"lies outside .*: x from -9 to -7, y from -9 to -7"),
        ((1.2, 1.2), None),
    ],
)
def test_what_lies_outside_or_is_empty_is_a_sentence(corner, sentence):
    ring = (
        np.array([[0, 0], [2, 0], [2, 2], [0, 2]]) * (1 if sentence else 0.1) + corner
    )
    with pytest.raises(UserError, match=sentence or "is empty: it encloses no pixel"):
        fill(Outline(((ring,),), "x"), (4, 8), "a.roi")
