"""Numbers of objects through a stack."""

import numpy as np
import pytest
from scipy import optimize

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


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_those_of_the_best_assignment_among_all(seed):
    rng = np.random.default_rng(seed)
    pages = []
    for _ in range(2):
        y, x = rng.integers(0, 64, (2, 30, 1, 1))
        rows, columns = np.ogrid[:64, :64]
        nearest = np.hypot(rows - y, columns - x).argmin(0) + 1
        pages.append(nearest.astype(np.int32) * (rng.random((64, 64)) < 0.9))
    numbering = Numbering(link=True, min_overlap=0.01)
    first, found = numbering(pages[0]), numbering(pages[1])
    count = first.max(), pages[1].max()
    shared = np.zeros((count[0] + 1, count[1] + 1))
    np.add.at(shared, (first, pages[1]), 1)
    iou = shared / (shared.sum(1)[:, None] + shared.sum(0) - shared)
    old, new = optimize.linear_sum_assignment(iou[1:, 1:], maximize=True)
    expected = {
        (a + 1, b + 1)
        for a, b in zip(old, new, strict=True)
        if iou[a + 1, b + 1] >= 0.01
    }
    linked = np.unique(np.stack([found[found > 0], pages[1][found > 0]], 1), axis=0)
    assert {(a, b) for a, b in linked.tolist() if a <= count[0]} == expected
