"""Measuring the objects that are found in what a network says of each pixel."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np

from segjax.metrics.matching_f1 import THRESHOLDS, matching_counts, matching_metrics
from segjax.objects.separation import Separation, separate
from segjax.training import sharding
from segjax.types import Record


class ObjectScores:
    """Counts of right, invented and missed objects, over the images of this process.

    Attributes:
      wanted: whether anything is counted.
    """

    def __init__(self, separation: Separation | None):
        """Takes how objects are found; None: nothing is counted."""
        self._separation = separation
        self.wanted = separation is not None
        self._cells: collections.deque[np.ndarray] = collections.deque()
        self._counts: list[np.ndarray] = []

    def expect(self, record: Record) -> None:
        """Keeps the true objects of an image until its prediction is added."""
        if self.wanted:
            self._cells.append(np.asarray(record["cells"]).astype(np.int64))

    def add(self, page: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Adds the prediction of the oldest image that is expected.

        Returns:
          Its `matching_counts`; None where nothing is counted.
        """
        if self._separation is None:
            return None
        found = separate(page["probabilities"], self._separation)
        self._counts.append(matching_counts(self._cells.popleft(), found))
        return self._counts[-1]

    def metrics(self) -> dict[str, float]:
        """The metrics of the images of all processes."""
        if not self.wanted:
            return {}
        counts = np.array(self._counts).reshape(-1, len(THRESHOLDS), 4)
        return matching_metrics(sharding.gather(counts))


def metric_names() -> set[str]:
    """Names of what `ObjectScores` measures."""
    return set(matching_metrics(np.zeros((1, len(THRESHOLDS), 4))))
