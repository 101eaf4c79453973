"""Numbers of objects through the pages of a stack: unique, and linked where they overlap."""

from __future__ import annotations

import numpy as np
from scipy import optimize

MIN_OVERLAP = 0.25
"""Least IoU of two sections of one object in neighbouring pages."""


class Numbering:
    """Renumbers the objects of page after page, so that no two objects share a number.

    With links, an object of a page and one of the page before it that overlap most are one
    object, where their IoU is at least `min_overlap`: sections of a cell along z, or a cell
    that hardly moves between frames. Pairs are chosen to have the largest sum of IoU.

    Example:
      >>> numbering = Numbering(link=True)
      >>> pages = np.array([[1, 1, 0, 2, 2]]), np.array([[0, 0, 0, 1, 1]])
      >>> [numbering(page).tolist() for page in pages]
      [[[1, 1, 0, 2, 2]], [[0, 0, 0, 2, 2]]]
    """

    def __init__(self, *, link: bool = False, min_overlap: float = MIN_OVERLAP):
        """Begins a stack.

        Args:
          link: whether objects of neighbouring pages that overlap are one.
          min_overlap: least IoU of those that are.
        """
        self._link, self._min_overlap = link, min_overlap
        self._used = 0
        self._before: np.ndarray | None = None

    def __call__(self, page: np.ndarray) -> np.ndarray:
        """Renumbers a page.

        Args:
          page: numbers of its objects, 1 to N, `[H, W]` int32; 0 is none.

        Returns:
          The same objects with the numbers that they have in the stack, int32 `[H, W]`.
        """
        count = int(page.max(initial=0))
        numbers = np.zeros(count + 1, np.int32)
        before = self._before
        if self._link and count and before is not None and before.shape == page.shape:
            self._take_over(before, page, numbers)
        new = numbers[1:] == 0
        numbers[1:][new] = self._used + 1 + np.arange(new.sum())
        self._used += int(new.sum())
        renumbered = numbers[page]
        self._before = renumbered
        return renumbered

    def begin_anew(self) -> None:
        """Links the next page to none: it does not follow the last one."""
        self._before = None

    def _take_over(
        self, last: np.ndarray, page: np.ndarray, numbers: np.ndarray
    ) -> None:
        """Gives objects the numbers of those that they overlap in the page before."""
        count = len(numbers) - 1
        known, before = np.unique(last, return_inverse=True)
        if known[0] != 0:  # no background in that page
            known, before = np.concatenate([[0], known]), before + 1
        shared = np.bincount(
            before.ravel() * (count + 1) + page.ravel(),
            minlength=len(known) * (count + 1),
        ).reshape(len(known), count + 1)
        union = shared.sum(1)[:, None] + shared.sum(0) - shared
        iou = (shared / np.maximum(union, 1))[1:, 1:]
        old, new = optimize.linear_sum_assignment(iou, maximize=True)
        enough = iou[old, new] >= self._min_overlap
        numbers[1 + new[enough]] = known[1 + old[enough]]
