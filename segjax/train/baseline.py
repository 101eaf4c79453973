"""What one grey value can do: the baseline that a trained network is measured against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from segjax.data.dataset import Dataset
from segjax.metrics.otsu import otsu_baseline
from segjax.train.evaluate import Report, evaluate
from segjax.train.task import SemanticTask
from segjax.types import Record, UserError

SIGMAS = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Widths in pixels among which the smoothing is chosen, on the training split."""


class OtsuPredictor:
    """Thresholds the smoothed image; dark is membrane, light is cell.

    It has the one method of `segjax.predict.tiled.Predictor` that evaluation uses.
    """

    def __init__(self, sigma: float, cell_class: int):
        """Keeps the smoothing, in pixels, and the class of the light pixels."""
        self.sigma, self.cell_class = sigma, cell_class

    def pages(
        self, images: Iterable[np.ndarray], forms: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` and `probabilities` (0 or 1) of each image `[H, W, 1]`."""
        del forms
        for image in images:
            light = otsu_baseline(image, sigma=self.sigma)
            labels = light if self.cell_class == 1 else 1 - light
            yield {
                "labels": labels,
                "probabilities": np.stack([labels == 0, labels == 1], -1).astype(float),
            }


def evaluate_baseline(task: SemanticTask, dataset: Dataset, split: str) -> Report:
    """Measures Otsu's threshold on a split, as the network is measured.

    The smoothing is the one with the best mean IoU on the training split.

    Raises:
      UserError: if the data are not grey images of two classes, one of them cells.
    """
    cell_class = task.evaluation.cell_class
    if (
        cell_class is None
        or dataset.channels != 1
        or dataset.label_spec.num_classes != 2
    ):
        raise UserError(
            "--baseline thresholds grey images into membrane and cell; this experiment "
            "has other data, or no config.evaluation.cell_class."
        )

    def measure(sigma: float, records: Sequence[Record], cells: int | None) -> Report:
        return evaluate(
            OtsuPredictor(sigma, cell_class),
            records,
            dataset.label_spec,
            split=split,
            cell_class=cells,
            normalization=task.normalization,
        )

    train = dataset.splits["train"]
    score = lambda sigma: measure(sigma, train, None).metrics["mean_iou"]
    return measure(max(SIGMAS, key=score), dataset.splits[split], cell_class)
