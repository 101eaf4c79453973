"""Baselines without a network, which a trained one has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from segjax.classical.otsu import otsu_baseline
from segjax.data.dataset import Dataset
from segjax.data.normalization import ImageNormalization
from segjax.tasks.semantic.evaluate import Evaluation, Pages, Report, evaluate
from segjax.types import Record

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
        self, images: Iterable[np.ndarray], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` and `probabilities` (0 or 1) of each image `[H, W, 1]`."""
        del outputs
        for image in images:
            light = otsu_baseline(image, sigma=self.sigma)
            labels = light if self.cell_class == 1 else 1 - light
            yield {
                "labels": labels,
                "probabilities": np.stack([labels == 0, labels == 1], -1).astype(float),
            }


class PositionPredictor:
    """Gives each pixel the class that training images have most often at its place.

    What is left when nobody looks at the image: road below, sky above, buildings on
    both sides. It has the one method of `segjax.predict.tiled.Predictor` that
    evaluation uses.
    """

    def __init__(self, records: Sequence[Record], num_classes: int):
        """Counts the classes at each place; labels of other sizes are stretched.

        Args:
          records: of the training split, at least one; the first gives the size of the
            map.
          num_classes: K.
        """
        shape = records[0]["label"].shape
        counts = np.zeros((num_classes, *shape), np.int32)
        for record in records:
            label = _stretched(np.asarray(record["label"]), shape)
            for k in range(num_classes):
                counts[k] += label == k
        self.counts = counts

    def pages(
        self, images: Iterable[np.ndarray], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` and `probabilities` of each image `[H, W, C]`."""
        del outputs
        labels = self.counts.argmax(0).astype(np.uint8)
        fractions = self.counts / np.maximum(self.counts.sum(0), 1)
        fractions = np.moveaxis(fractions, 0, -1).astype(np.float32)
        for image in images:
            size = image.shape[:2]
            yield {
                "labels": _stretched(labels, size),
                "probabilities": _stretched(fractions, size),
            }


def _stretched(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Nearest pixels of `[H, W, ...]` at another size."""
    rows, columns = (
        (np.arange(new) * old) // new
        for new, old in zip(size, pixels.shape[:2], strict=True)
    )
    return pixels[rows][:, columns]


def evaluate_baseline(
    dataset: Dataset,
    split: str,
    evaluation: Evaluation,
    *,
    normalization: ImageNormalization,
) -> tuple[str, Report]:
    """Measures what a network has to beat on a split, as the network is measured.

    Where cells in grey images are separated from what is between them, that is Otsu's
    threshold, "otsu", with the smoothing that has the best mean IoU on the training
    split. Elsewhere it is the commonest class at each place, "position".

    Args:
      dataset: the data; `split` has records with labels.
      split: which one is measured.
      evaluation: what is measured.
      normalization: of the images.

    Returns:
      The name of the baseline and what was measured.
    """
    cell_class = evaluation.cell_class

    def measure(
        predictor: Pages, records: Sequence[Record], cell_class: int | None = None
    ) -> Report:
        return evaluate(
            predictor,
            records,
            dataset.label_spec,
            split=split,
            normalization=normalization,
            boundary_f1=evaluation.boundary_f1,
            trimap_widths=evaluation.trimap_widths,
            cell_class=cell_class,
        )

    train, wanted = dataset.splits["train"], dataset.splits[split]
    classes = dataset.label_spec.num_classes
    if cell_class is None or dataset.channels != 1 or classes != 2:
        return "position", measure(PositionPredictor(train, classes), wanted)

    def score(sigma: float) -> float:
        report = measure(OtsuPredictor(sigma, cell_class), train)
        return report.metrics["mean_iou"]

    best = OtsuPredictor(max(SIGMAS, key=score), cell_class)
    return "otsu", measure(best, wanted, cell_class=cell_class)
