"""Numbers of objects through the pages of a stack: unique, and linked where they overlap."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

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
        both = (last > 0) & (page > 0)
        if not both.any():
            return
        # Of all pairs, few overlap: the others are never made.
        keys = last[both].astype(np.int64) * len(numbers) + page[both]
        pairs, shared = np.unique(keys, return_counts=True)
        old, new = np.divmod(pairs, len(numbers))
        union = np.bincount(last.ravel())[old] + np.bincount(page.ravel())[new] - shared
        known, row = np.unique(old, return_inverse=True)
        iou = shared / union
        # Each old object may stay alone, with a column of its own. The sum of IoU is
        # largest where that of 2 - IoU is least; none of these is 0, which is no edge.
        own = np.arange(len(known))
        cost = np.concatenate([2 - iou, np.full(len(known), 2.0)])
        rows = np.concatenate([row, own])
        columns = np.concatenate([new, len(numbers) + own])
        old, new = csgraph.min_weight_full_bipartite_matching(
            sparse.csr_array((cost, (rows, columns)))
        )
        old, new = old[new < len(numbers)], new[new < len(numbers)]
        matched = np.isin(pairs, known[old].astype(np.int64) * len(numbers) + new)
        old, new = np.divmod(pairs[matched & (iou >= self._min_overlap)], len(numbers))
        numbers[new] = old
