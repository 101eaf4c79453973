"""Distances in pixels between the boundaries of classes in truth and prediction.

They say how far off an outline is, where IoU says how much of an area is; a large object
can have a good IoU and an outline that is pixels away. Each image gives an array; arrays of
images are added up, and the metrics are read from the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from segjax.metrics.boundary import checked, checked_sums, edges
from segjax.types import IGNORE_LABEL

PERCENTILE = 95
"""Of the distances, for the Hausdorff distance: the largest one of all is often that of a
single pixel."""

_NAMES = ("surface_distance", "hausdorff_95", "hausdorff")


def surface_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> np.ndarray:
    """Measures the distances of one image: an array to be added to those of others.

    The boundary of a class is that of `boundary_counts`: its pixels that touch, by an
    edge, a pixel of another class; the rim of the image and ignored pixels make none.
    Each pixel of one boundary has a distance to the nearest pixel of the other one, from
    middle to middle. Three numbers are taken of these:

    - the average symmetric surface distance: the mean of the distances of both
      boundaries, all pixels alike (Heimann et al. 2009, IEEE TMI 28(8), 1251-1265);
    - the 95th percentile Hausdorff distance: that percentile of the distances of each
      boundary to the other, and the larger of the two (Maier-Hein et al. 2024, Nature
      Methods 21, 195-212);
    - the Hausdorff distance: the largest of all distances of both boundaries (Huttenlocher,
      Klanderman, Rucklidge 1993, IEEE PAMI 15(9), 850-863).

    A class that has a boundary in truth or prediction alone has none of them, and counts as
    undefined; one without a boundary in both does not count at all.

    Args:
      label: true class of each pixel, integers `[H, W]`.
      prediction: class given to each pixel, integers `[H, W]`.
      num_classes: number of classes, K.
      ignore_label: label of pixels that do not count.

    Returns:
      float64 `[K + 1, 5]`, for each class: the average surface distance, the 95th
      percentile Hausdorff distance and the Hausdorff distance in pixels, and 1 where they
      are defined, 1 where they are undefined. The last row has the means over the classes of the image where they
      are defined, and 1 where any is undefined.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.
    """
    label, prediction = checked(label, prediction)
    counted = label != ignore_label
    true_edge, given_edge = edges(label, counted), edges(prediction, counted)
    sums = np.zeros((num_classes + 1, 5))
    for k in range(num_classes):
        truth = np.argwhere(true_edge & (label == k))
        given = np.argwhere(given_edge & (prediction == k))
        if len(truth) and len(given):
            there, _ = KDTree(truth).query(given)
            back, _ = KDTree(given).query(truth)
            far = max(np.percentile(x, PERCENTILE) for x in (there, back))
            both = np.concatenate([there, back])
            sums[k] = both.mean(), far, both.max(), 1, 0
        elif len(truth) or len(given):
            sums[k, 4] = 1
    if (defined := sums[:, 3].sum()) > 0:
        sums[-1, :4] = *(sums[:, :3].sum(0) / defined), 1
    sums[-1, 4] = sums[:, 4].any()
    return sums


def surface_metrics(
    sums: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Reads the surface distances from the sum of arrays of `surface_counts`.

    Args:
      sums: `[K + 1, 5]`.
      names: names of the classes; by default their numbers.

    Returns:
      `surface_distance`, `hausdorff_95` and `hausdorff`, means over the images in which they are
      defined, and the same of each class as `surface_distance/<name>`; pixels, NaN
      where there is no such image. `surface_undefined` is the number of images in which
      a class is missed or invented as a whole: those are not in the means.

    Raises:
      ValueError: if the sums have another shape.

    Example:
      >>> label = np.zeros((1, 9), int)
      >>> prediction = label.copy()
      >>> label[:, :4], prediction[:, :6] = 1, 1
      >>> counts = surface_counts(label, prediction, num_classes=2)
      >>> surface_metrics(counts)["surface_distance/1"]
      2.0
    """
    sums, names = checked_sums(sums, names, 5)
    metrics = {}
    suffixes = (*(f"/{name}" for name in names), "")
    for suffix, row in reversed(list(zip(suffixes, sums, strict=True))):
        for column, name in enumerate(_NAMES):
            value = row[column] / row[3] if row[3] else math.nan
            metrics[f"{name}{suffix}"] = float(value)
    return metrics | {"surface_undefined": float(sums[-1, 4])}
