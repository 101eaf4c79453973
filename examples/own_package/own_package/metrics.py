"""Metrics: a function whose numbers are averaged over images, a class that adds up counts."""

from __future__ import annotations

import numpy as np


def area(label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """How far off the area of class 1 is, as a fraction of it.

    Args:
      label: true classes `[H, W]`, 255 where a pixel does not count.
      prediction: the classes of the network `[H, W]`.

    Returns:
      `area_error`; NaN, undefined, where an image has no such class.
    """
    counted = label != 255
    true, given = ((counted & (x == 1)).sum() for x in (label, prediction))
    return {"area_error": abs(int(given) - int(true)) / true if true else np.nan}


class Brier:
    """The squared error of probabilities (Brier 1950), over the pixels of all images."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes

    def count(self, label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The sum of the squared errors of an image, and its pixels."""
        counted = label != 255
        wanted = np.eye(self.num_classes)[label[counted]]
        return np.array(
            [np.square(probabilities[counted] - wanted).sum(), counted.sum()]
        )

    def metrics(self, total: np.ndarray) -> dict[str, float]:
        """Reads the mean from the sum of all counts."""
        return {"brier": total[0] / total[1] if total[1] else np.nan}
