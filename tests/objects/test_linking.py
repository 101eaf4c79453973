"""Numbers of objects through a stack."""

import numpy as np

from segjax.objects.linking import Numbering


def page(*boxes):
    numbers = np.zeros((20, 20), np.int32)
    for number, (top, left) in enumerate(boxes, 1):
        numbers[top : top + 5, left : left + 5] = number
    return numbers


def test_numbers_are_unique_in_a_stack():
    numbering = Numbering()
    first, second = numbering(page((1, 1), (1, 10))), numbering(page((1, 1)))
    assert np.unique(first).tolist() == [0, 1, 2]
    assert np.unique(second).tolist() == [0, 3]


def test_a_cell_keeps_its_number_while_it_overlaps_itself():
    numbering = Numbering(link=True)
    pages = [page((1, 1), (1, 10)), page((1, 11), (2, 1)), page((14, 14), (1, 12))]
    numbers = [numbering(x) for x in pages]
    assert [x[3, 12] for x in numbers] == [2, 2, 2]
    assert [x[3, 3] for x in numbers] == [1, 1, 0]
    assert numbers[2][16, 16] == 3


def test_pages_that_do_not_follow_each_other_are_not_linked():
    numbering = Numbering(link=True)
    numbering(page((1, 1)))
    numbering.begin_anew()
    assert numbering(page((1, 1))).max() == 2


def test_one_cell_that_meets_two_takes_over_one_number():
    numbering = Numbering(link=True)
    numbering(page((1, 1), (1, 6)))
    joined = np.where(page((1, 1), (1, 6)) > 0, 1, 0).astype(np.int32)
    assert len(np.unique(numbering(joined))) == 2


def test_pages_without_background_or_of_other_sizes_are_numbered_too():
    numbering = Numbering(link=True)
    assert (numbering(np.ones((4, 4), np.int32)) == 1).all()
    assert (numbering(np.ones((4, 4), np.int32)) == 1).all()
    assert (numbering(np.ones((5, 5), np.int32)) == 2).all()
