"""Pixels of rare classes, for crops to be centred on."""

from __future__ import annotations

import numpy as np

from segjax.data.dataset import parts_of
from segjax.types import IGNORE_LABEL, Record


class ForegroundPixels:
    """Samples pixels of any class but 0, of which each has the same probability.

    The pixels of a label are counted when it is used first; later, one row of it is read.
    May be called from several threads.

    Example:
      >>> record = {"image": None, "label": np.array([[0, 0, 2], [255, 0, 0]])}
      >>> ForegroundPixels()(0, record, np.random.default_rng(0))
      (0, 2)
    """

    def __init__(self) -> None:
        self._counts: dict[int, np.ndarray] = {}

    def __call__(
        self, record_id: int, record: Record, rng: np.random.Generator
    ) -> tuple[int, int] | None:
        """Samples a pixel of a label.

        Args:
          record_id: place of the record in its split.
          record: the same, with a `label` `[H, W]`.
          rng: source of randomness.

        Returns:
          Its row and column; None where all pixels are background or ignored.
        """
        if record_id not in self._counts:
            rows = _is_foreground(np.asarray(record["label"])).sum(axis=1)
            self._counts[record_id] = rows.cumsum(dtype=np.uint32)
        counts = self._counts[record_id]
        if not counts[-1]:
            return None
        place = int(rng.integers(int(counts[-1])))
        row = int(np.searchsorted(counts, place, side="right"))
        pixels = parts_of(record)["label"][row : row + 1, :]
        columns = np.flatnonzero(_is_foreground(np.asarray(pixels)))
        return row, int(
            columns[place - int(counts[row])]
        )  # counted from the end of the row


def _is_foreground(label: np.ndarray) -> np.ndarray:
    return (label != 0) & (label != IGNORE_LABEL)
