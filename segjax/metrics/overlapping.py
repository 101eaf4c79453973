"""Metrics of classes that overlap: each class against all that is not of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.types import IGNORE_LABEL, class_bits


def overlapping_counts(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """Counts the pixels of each class, in truth and in prediction.

    Counts are added up over a whole set and divided once.

    Args:
      label: sums of the values of classes (`segjax.types.class_bits`), integers `[H, W]`.
      prediction: the same of a network.
      num_classes: K.

    Returns:
      int64 `[K, 2, 2]`; of each class rows are the truth, columns the prediction, and
      index 1 is of the class. Pixels labelled `IGNORE_LABEL` do not count.

    Example:
      >>> counts = overlapping_counts(np.array([[0, 3]]), np.array([[1, 3]]), num_classes=2)
      >>> counts.tolist()
      [[[0, 1], [0, 1]], [[1, 0], [0, 1]]]
    """
    counted = np.asarray(label) != IGNORE_LABEL
    truth, found = np.asarray(label)[counted], np.asarray(prediction)[counted]
    counts = np.zeros((num_classes, 4), np.int64)
    for k, bit in enumerate(class_bits(num_classes)):
        pairs = 2 * (truth & bit > 0) + (found & bit > 0)
        counts[k] = np.bincount(pairs, minlength=4)
    return counts.reshape(-1, 2, 2)


def overlapping_metrics(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Reads the metrics of classes that overlap from their counts.

    With tp, fp and fn of a class, all at a probability of 1/2: `iou/<name>` is
    tp / (tp + fp + fn), `dice/<name>` 2 tp / (2 tp + fp + fn), the F1 of its pixels,
    `precision/<name>` tp / (tp + fp), `recall/<name>` tp / (tp + fn). `mean_iou` and
    `mean_dice` are means over the classes that are in truth or prediction;
    `pixel_accuracy` is that of all decisions, a pixel making one for each class, and
    `pixel_error` one minus it.

    Args:
      counts: `[K, 2, 2]`, from `overlapping_counts`, added up.
      names: of the classes.

    Returns:
      Metrics by name; NaN where one is undefined.

    Example:
      >>> counts = np.array([[[5, 1], [1, 3]]])
      >>> metrics = overlapping_metrics(counts, ["cell"])
      >>> metrics["iou/cell"], metrics["dice/cell"]
      (0.6, 0.75)
    """
    n = np.asarray(counts, np.float64)
    hit, invented, missed = n[:, 1, 1], n[:, 0, 1], n[:, 1, 0]
    by_class = {
        "iou": _ratio(hit, hit + invented + missed),
        "dice": _ratio(2 * hit, 2 * hit + invented + missed),
        "precision": _ratio(hit, hit + invented),
        "recall": _ratio(hit, hit + missed),
    }
    accuracy = float(_ratio(hit.sum() + n[:, 0, 0].sum(), n.sum()))
    metrics = {
        "mean_iou": _mean(by_class["iou"]),
        "mean_dice": _mean(by_class["dice"]),
        "pixel_accuracy": accuracy,
        "pixel_error": 1 - accuracy,
    }
    for kind, values in by_class.items():
        metrics |= {
            f"{kind}/{name}": float(value)
            for name, value in zip(names, values, strict=True)
        }
    return metrics


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides; nothing out of nothing is NaN."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
