"""Boundary IoU of classes: how well the pixels along their outlines agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.metrics.boundary import checked
from segjax.metrics.instance_similarity import BOUNDARY_FRACTION, boundary_width
from segjax.types import IGNORE_LABEL


def boundary_iou_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    fraction: float = BOUNDARY_FRACTION,
    ignore_label: int = IGNORE_LABEL,
) -> np.ndarray:
    """Counts the pixels along the outlines of one image: an array to be added to others.

    Cheng, Girshick, Dollar, Berg, Kirillov 2021, arXiv 2103.16562, section 4: of the mask of
    a class, in truth and in prediction, only those pixels count that are near what is not in
    it, and the intersection over union is that of what is left. The paper measures objects
    one by one; here a class of an image is one mask, and pixels are added up over images
    before they are divided, as those of the mean IoU are. As in the paper's own code, near
    means within a square, and beyond the image nothing is in a mask. Ignored pixels are in no
    mask.

    Args:
      label: true class of each pixel, integers `[H, W]`.
      prediction: class given to each pixel, integers `[H, W]`.
      num_classes: number of classes, K.
      fraction: width of the boundary as a fraction of the image's diagonal, at least a pixel.
      ignore_label: label of pixels that do not count.

    Returns:
      int64 `[K, 2]`: of each class the pixels of the intersection and of the union.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.
    """
    label, prediction = checked(label, prediction)
    counted = label != ignore_label
    width = boundary_width(label.shape, fraction)
    counts = np.zeros((num_classes, 2), np.int64)
    for k in range(num_classes):
        truth, given = (
            _near_outside(counted & (x == k), width) for x in (label, prediction)
        )
        counts[k] = (truth & given).sum(), (truth | given).sum()
    return counts


def boundary_iou_metrics(
    counts: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Reads the boundary IoU from the sum of arrays of `boundary_iou_counts`.

    Args:
      counts: `[K, 2]`.
      names: names of the classes; by default their numbers.

    Returns:
      `boundary_iou/<name>` of each class, NaN where it is in neither truth nor prediction,
      and `mean_boundary_iou`, the mean over the others; in [0, 1].

    Raises:
      ValueError: if the counts have another shape.

    Example:
      >>> label = np.eye(8, dtype=int)
      >>> counts = boundary_iou_counts(label, label, num_classes=2)
      >>> boundary_iou_metrics(counts)["mean_boundary_iou"]
      1.0
    """
    counts = np.asarray(counts)
    names = tuple(map(str, range(len(counts)))) if names is None else tuple(names)
    if counts.shape != (len(names), 2):
        raise ValueError(
            f"counts must be [K, 2] for {len(names)} classes, got {counts.shape}"
        )
    found = {
        f"boundary_iou/{name}": float(both / either) if either else math.nan
        for name, (both, either) in zip(names, counts.tolist(), strict=True)
    }
    known = [value for value in found.values() if not math.isnan(value)]
    mean = sum(known) / len(known) if known else math.nan
    return {"mean_boundary_iou": mean, **found}


def _near_outside(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask with one outside of it in the square around them."""
    if not mask.any():
        return mask
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")
    return mask & (distance[1:-1, 1:-1] <= width)
