"""Baselines without a network, which a trained one has to beat."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from segjax.classical import watershed
from segjax.classical.otsu import otsu_baseline
from segjax.classical.watershed import watershed_baseline
from segjax.data.dataset import Dataset
from segjax.data.normalization import ImageNormalization
from segjax.errors import UserError
from segjax.metrics import matching_counts, matching_metrics, semantic_metrics
from segjax.predict.scaled import NormalizedImage
from segjax.tasks.semantic.evaluate import Evaluation, Pages, Report, evaluate
from segjax.types import Record

SIGMAS = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Widths in pixels among which the smoothing is chosen, on the training split."""

UNTUNED_SIGMA = 1.0
"""That which is taken where there is no training split."""

TUNED_ON = 24
"""Number of training images that are looked at."""


class OtsuPredictor:
    """Thresholds the smoothed image, two classes.

    It has the one method of `segjax.predict.tiled.Predictor` that evaluation uses.
    """

    def __init__(self, sigma: float, light_class: int | None):
        """Takes how the threshold becomes classes.

        Args:
          sigma: standard deviation of the smoothing, pixels.
          light_class: 0 or 1, the class of the light pixels; None: of each image the
            smaller side is class 1, as objects cover less than what is around them.
        """
        self.sigma, self.light_class = sigma, light_class

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` and `probabilities` (0 or 1) of each image `[H, W, C]`.

        Channels are averaged.
        """
        del outputs
        for image in images:
            image = np.asarray(image)
            grey = image if image.shape[-1] == 1 else image.mean(-1)
            labels = otsu_baseline(grey, sigma=self.sigma)
            light = self.light_class
            if light == 0 or (light is None and labels.mean() > 0.5):
                labels = 1 - labels
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
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
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


def evaluate_baselines(
    dataset: Dataset,
    split: str,
    evaluation: Evaluation,
    *,
    normalization: ImageNormalization,
    objects: bool,
) -> dict[str, float]:
    """Measures all baselines of a data set.

    Args:
      dataset: the data; `split` has records with labels.
      split: which one is measured.
      evaluation: what is measured.
      normalization: of the images.
      objects: whether objects are measured: then Otsu's threshold and a watershed, too; with
        more than two classes nothing else.

    Returns:
      The metrics, as `otsu/<name>`, `position/<name>` and `watershed/<name>`.
    """
    found = {}
    if objects:
        scores = evaluate_watershed(dataset, split)
        found = {f"watershed/{metric}": value for metric, value in scores.items()}
    if not objects or dataset.label_spec.num_classes == 2:
        name, report = evaluate_baseline(
            dataset, split, evaluation, normalization=normalization
        )
        found |= {f"{name}/{metric}": x for metric, x in report.metrics.items()}
    return found


def has_default_baseline(dataset: Dataset, split: str, *, objects: bool) -> bool:
    """Whether cells lie on a background in grey images, so that a threshold can find them.

    Such baselines can be measured without training images.

    Args:
      dataset: the data; `split` has records.
      split: which one is measured.
      objects: whether objects are measured.

    Returns:
      Whether baselines are measured where nobody asks for them.
    """
    if dataset.label_spec.names[0] != "background":
        return False
    return is_for_otsu(dataset, split) or (objects and _is_grey(dataset, split))


def is_for_otsu(dataset: Dataset, split: str) -> bool:
    """Whether two classes are told apart in grey images, which may be stored as RGB."""
    return dataset.label_spec.num_classes == 2 and _is_grey(dataset, split)


def _is_grey(dataset: Dataset, split: str) -> bool:
    """Whether images have one channel, or the first one has the same in all."""
    if dataset.channels == 1:
        return True
    image = np.asarray(dataset.splits[split][0]["image"])
    return bool((image == image[..., :1]).all())


def evaluate_baseline(
    dataset: Dataset,
    split: str,
    evaluation: Evaluation,
    *,
    normalization: ImageNormalization,
) -> tuple[str, Report]:
    """Measures what a network has to beat on a split, as the network is measured.

    Where two classes are told apart in grey images, that is Otsu's threshold, "otsu". The
    smoothing, and which class is the light one, are those with the best mean IoU on
    training images, evenly spread. Elsewhere it is the commonest class at each place,
    "position".

    Args:
      dataset: the data; `split` has records with labels. Without a split "train", such as
        a folder that is only measured, the smoothing is 1 pixel, and the smaller side of
        the threshold is class 1, or the light one `evaluation.cell_class`.
      split: which one is measured.
      evaluation: what is measured.
      normalization: of the images.

    Returns:
      The name of the baseline and what was measured.

    Raises:
      UserError: if there is no split to learn from where that is needed.
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
            measures=evaluation.measures(dataset.label_spec),
            cell_class=cell_class,
        )

    train, wanted = dataset.splits.get("train", ()), dataset.splits[split]
    if not is_for_otsu(dataset, split):
        if not len(train):
            raise UserError(
                "--baseline is the commonest class at each place here, for which training "
                "images are needed: measure a split of the data set, with --split."
            )
        return "position", measure(
            PositionPredictor(train, dataset.label_spec.num_classes), wanted
        )
    best = OtsuPredictor(UNTUNED_SIGMA, cell_class)
    if len(train):
        records = _spread(train)

        def score(predictor: OtsuPredictor) -> float:
            counts = np.zeros((2, 2), np.int64)
            images = (x["image"] for x in records)  # Otsu needs no normalisation
            for record, page in zip(records, predictor.pages(images), strict=True):
                label, found = np.asarray(record["label"]), page["labels"]
                for i, j in np.ndindex(2, 2):
                    counts[i, j] += ((label == i) & (found == j)).sum()
            return semantic_metrics(counts)["mean_iou"]

        pairs = itertools.product(SIGMAS, (1, 0))
        best = max((OtsuPredictor(*pair) for pair in pairs), key=score)
    return "otsu", measure(best, wanted, cell_class=cell_class)


def evaluate_watershed(dataset: Dataset, split: str) -> dict[str, float]:
    """Measures Otsu's threshold and a watershed on records that number their objects.

    Smoothing and distance of seeds are those with the best F1 at an IoU of 0.5 on
    training images, evenly spread; without a split "train" they are the usual ones.

    Args:
      dataset: the data; records have `cells`.
      split: which one is measured.

    Returns:
      The metrics of `segjax.metrics.matching_metrics`.
    """

    def measure(records: Sequence[Record], **arguments: Any) -> dict[str, float]:
        return matching_metrics(
            [
                matching_counts(
                    np.asarray(record["cells"]).astype(np.int64),
                    watershed_baseline(record["image"], **arguments),
                )
                for record in records
            ]
        )

    train = dataset.splits.get("train", ())
    chosen: dict[str, Any] = {}
    if len(train):
        records = _spread(train)
        pairs = itertools.product(watershed.SIGMAS, watershed.SPACINGS)
        options = [{"sigma": sigma, "spacing": spacing} for sigma, spacing in pairs]
        chosen = max(options, key=lambda x: measure(records, **x)["f1@0.5"])
    return measure(dataset.splits[split], **chosen)


def _spread(records: Sequence[Record]) -> list[Record]:
    """Up to `TUNED_ON` records, evenly spread."""
    places = np.linspace(0, len(records) - 1, min(TUNED_ON, len(records))).astype(int)
    return [records[int(i)] for i in np.unique(places)]
