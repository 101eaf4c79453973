"""Objects found in label images: F1 and the like over thresholds of IoU.

How the field scores nuclei: predicted and true objects are matched one to one where their
IoU reaches a threshold; matched ones are right, the others missed or invented. The 2018 Data
Science Bowl averages TP / (TP + FP + FN) over the thresholds 0.50 to 0.95 and then over
images (Caicedo et al. 2019, Nature Methods 16, 1247-1253); StarDist (Schmidt et al. 2018,
arXiv 1806.03535) calls that number average precision and adds up the counts of all images.
It is not COCO's AP: detections have no scores here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


def label_iou(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """IoU of every true with every predicted object.

    Args:
      label: number of the true object of each pixel, integers `[H, W]`; 0 is none.
      prediction: the same of the predicted objects.

    Returns:
      float64 `[N, M]`, objects in the order of their numbers.

    Raises:
      ValueError: if the shapes differ, or a number is negative.

    Example:
      >>> label_iou(np.array([[1, 1, 0, 0]]), np.array([[0, 7, 7, 0]])).round(2).tolist()
      [[0.33]]
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    if label.shape != prediction.shape or label.ndim != 2:
        raise ValueError(
            "label and prediction must have one shape [H, W], got "
            f"{label.shape} and {prediction.shape}"
        )
    if min(label.min(initial=0), prediction.min(initial=0)) < 0:
        raise ValueError(
            "label and prediction must not be negative; 0 is not an object"
        )
    (true, i), (given, j) = (
        np.unique(x.ravel(), return_inverse=True) for x in (label, prediction)
    )
    shared = np.bincount(i * len(given) + j, minlength=len(true) * len(given))
    shared = shared.reshape(len(true), len(given)).astype(np.float64)
    union = shared.sum(1)[:, None] + shared.sum(0) - shared
    return (shared / union)[true > 0][:, given > 0]


def matching_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """Matches the objects of one image.

    The matching has as many pairs as possible, of those the largest sum of IoU. From
    0.5 on there is only one.

    Args:
      label: number of the true object of each pixel, integers `[H, W]`; 0 is none.
      prediction: the same of the predicted objects.
      thresholds: of IoU, T.

    Returns:
      float64 `[T, 4]`: right, invented and missed objects, and the sum of IoU of the
      right ones. Sums over images are what `matching_metrics` reads.

    Raises:
      ValueError: if the shapes differ, a number is negative, or a threshold is not
        above 0 and at most 1.
    """
    if not all(0 < t <= 1 for t in thresholds):
        raise ValueError(
            f"thresholds must be above 0 and at most 1, got {tuple(thresholds)}"
        )
    iou = label_iou(label, prediction)
    counts = np.zeros((len(thresholds), 4))
    for row, threshold in zip(counts, thresholds, strict=True):
        enough = iou >= threshold
        if enough.any():
            # A pair that is allowed weighs more than any sum of IoU.
            gain = enough * (1 + iou / (1 + min(iou.shape)))
            pairs = optimize.linear_sum_assignment(gain, maximize=True)
            right = iou[pairs][enough[pairs]]
        else:
            right = np.zeros(0)
        row[0], row[3] = len(right), right.sum()
    counts[:, 1] = iou.shape[1] - counts[:, 0]
    counts[:, 2] = iou.shape[0] - counts[:, 0]
    return counts


def matching_metrics(
    counts: Sequence[np.ndarray] | np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Reads F1 and the like from the counts of several images.

    Args:
      counts: `[I, T, 4]`, `matching_counts` of each image.
      thresholds: those that they were counted with.

    Returns:
      For each threshold `f1@T`, `precision@T`, `recall@T` and `matching_ap@T`, TP /
      (TP + FP + FN), of the counts of all images; `mean_f1` and `mean_matching_ap`, their
      means over thresholds; `dsb_score`, the mean over images of the mean over
      thresholds of TP / (TP + FP + FN); `panoptic_quality@0.5` where 0.5 is among the
      thresholds: the sum of IoU over TP + FP / 2 + FN / 2. An image with no object,
      true or predicted, counts 1 in the score of the Data Science Bowl; where there
      is nothing at all, the others are NaN.

    Raises:
      ValueError: if the counts have another shape.

    Example:
      >>> label = np.array([[1, 1, 0, 2, 2]])
      >>> counts = matching_counts(label, np.array([[1, 1, 0, 0, 0]]))
      >>> round(matching_metrics([counts])["f1@0.5"], 3)
      0.667
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 3 or counts.shape[1:] != (len(thresholds), 4):
        raise ValueError(
            f"counts must be [I, {len(thresholds)}, 4], got shape {counts.shape}"
        )
    right, invented, missed, overlap = np.moveaxis(counts.sum(0), -1, 0)
    found = {}
    f1 = _ratio(2 * right, 2 * right + invented + missed)
    accuracy = _ratio(right, right + invented + missed)
    named = {
        "f1": f1,
        "precision": _ratio(right, right + invented),
        "recall": _ratio(right, right + missed),
        "matching_ap": accuracy,
    }
    for name, values in named.items():
        for threshold, value in zip(thresholds, values.tolist(), strict=True):
            found[f"{name}@{threshold:g}"] = value
    found["mean_f1"], found["mean_matching_ap"] = (
        float(f1.mean()),
        float(accuracy.mean()),
    )
    total = counts[..., :3].sum(-1)
    of_images = np.where(total > 0, counts[..., 0] / np.maximum(total, 1), 1.0)
    found["dsb_score"] = float(of_images.mean()) if len(counts) else math.nan
    if 0.5 in thresholds:
        t = list(thresholds).index(0.5)
        quality = _ratio(overlap, right + (invented + missed) / 2)
        found["panoptic_quality@0.5"] = float(quality[t])
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), math.nan)
