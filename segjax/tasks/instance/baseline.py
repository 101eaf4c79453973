"""Baselines that find objects without a network, measured as the network is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from segjax.classical.watershed import SIGMAS, SPACINGS, watershed_baseline
from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.metrics.average_precision import AveragePrecision
from segjax.metrics.matching_f1 import matching_counts, matching_metrics
from segjax.rle import encode_label
from segjax.tasks.instance.evaluate import limits
from segjax.tasks.instance.masks import instance_masks, label_image
from segjax.types import Record


def evaluate_watershed(
    dataset: Dataset,
    split: str,
    *,
    tuned_on: int = 24,
    max_detections: int | None = None,
) -> dict[str, float]:
    """Measures Otsu's threshold and a watershed on objects of one class.

    Smoothing and distance of seeds are those with the best F1 at an IoU of 0.5 on
    training images, evenly spread.

    Args:
      dataset: of objects in one class, such as nuclei.
      split: which one is measured.
      tuned_on: training images that are looked at.
      max_detections: objects of an image that count for the average precision; None is
        COCO's 100.

    Returns:
      The metrics of `segjax.metrics.matching_f1` and, as the objects have no scores and
      all count alike, `mask_AP`, `mask_AP50` and `mask_AP75`; `sigma` and `spacing`
      that were taken.

    Raises:
      UserError: if there are several classes, or no such split.
    """
    if dataset.instances is None or dataset.label_spec.num_classes != 2:
        raise UserError(
            f'The data set "{dataset.name}" has {dataset.label_spec.num_classes - 1} '
            "classes; a watershed separates objects of one class from the background."
        )
    if split not in dataset.splits:
        raise UserError(
            f'The data set "{dataset.name}" has no split "{split}"; it has '
            f"{', '.join(dataset.splits)}."
        )
    train = dataset.splits["train"]
    places = np.linspace(0, len(train) - 1, min(tuned_on, len(train))).astype(int)
    chosen = [train[int(i)] for i in np.unique(places)]
    pairs = itertools.product(SIGMAS, SPACINGS)
    sigma, spacing = max(pairs, key=functools.partial(_f1, chosen))
    names = dataset.label_spec.names[1:]
    metric = AveragePrecision(names, "masks", limits(max_detections, "masks"))
    counts = []
    for record in dataset.splits[split]:
        label = watershed_baseline(record["image"], sigma=sigma, spacing=spacing)
        counts.append(matching_counts(truth_label(record), label))
        masks = encode_label(label)
        ones = np.ones(len(masks))
        found = {"classes": ones, "scores": ones, "masks": masks}
        metric.add(record, found)
    stats = metric.result().stats
    precisions = {f"mask_{name}": stats[name] for name in ("AP", "AP50", "AP75")}
    chosen_values = {"sigma": float(sigma), "spacing": float(spacing)}
    return matching_metrics(counts) | precisions | chosen_values


def truth_label(record: Record) -> np.ndarray:
    """Numbers the objects of a record that are not crowds, int32 `[H, W]`."""
    return label_image(instance_masks(record), record["image"].shape[:2])


def _f1(records: Sequence[Record], arguments: tuple[float, int]) -> float:
    sigma, spacing = arguments
    counts = [
        matching_counts(
            truth_label(record),
            watershed_baseline(record["image"], sigma=sigma, spacing=spacing),
            (0.5,),
        )
        for record in records
    ]
    return matching_metrics(counts, (0.5,))["f1@0.5"]
