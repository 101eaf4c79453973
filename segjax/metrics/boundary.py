"""Metrics of the boundaries between classes: boundary F1, and IoU in bands around them.

Each image gives an array; arrays of images, batches and processes are added up, and the
metrics are read from the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from segjax.metrics.confusion import semantic_metrics
from segjax.types import IGNORE_LABEL

TOLERANCE = 0.0075
"""Fraction of the image's diagonal by which a boundary may be off."""

_ROUNDING = 1e-9
"""By which a distance that is computed may exceed the one that is meant."""


def boundary_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    ignore_label: int = IGNORE_LABEL,
) -> np.ndarray:
    """Measures the boundaries of one image: an array to be added to those of others.

    Csurka, Larlus, Perronnin, BMVC 2013 (What is a good evaluation measure for semantic
    segmentation?), as SegNet reports it (Badrinarayanan et al. 2017, arXiv 1511.00561,
    section 4.2). The boundary of a class is made of its pixels that touch, by an edge,
    a pixel of another class; the rim of the image and ignored pixels make none.
    Precision is the fraction of the predicted boundary that lies within the tolerance of
    the true one, recall the fraction of the true one within that of the predicted. Their
    harmonic mean is averaged over the classes in the image's truth: a class that is
    not predicted counts 0, one that fills truth and prediction alike has no boundary
    and does not count.

    Labels that ignore a margin around each object, such as PASCAL VOC's, leave hardly any
    boundary to find: `trimap_counts` is meant for them. An image in which they hide every
    boundary between its classes does not count.

    Args:
      label: true class of each pixel, integers `[H, W]`.
      prediction: class given to each pixel, integers `[H, W]`.
      num_classes: number of classes, K.
      tolerance: distance, as a fraction of the image's diagonal in pixels.
      ignore_label: label of pixels that do not count.

    Returns:
      float64 `[K + 1, 2]`: the sum of F1 and the number of images of each class; the
      last row is that of the images' means.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.
    """
    label, prediction = checked(label, prediction)
    counted = label != ignore_label
    reach = tolerance * math.hypot(*label.shape)
    true_edge, given_edge = edges(label, counted), edges(prediction, counted)
    sums = np.zeros((num_classes + 1, 2))
    classes = np.unique(label[counted])
    if len(classes) > 1 and not true_edge.any():
        return sums
    for k in classes:
        if not 0 <= k < num_classes:
            continue
        truth = np.argwhere(true_edge & (label == k))
        given = np.argwhere(given_edge & (prediction == k))
        if len(truth) or len(given):
            precision, recall = _near(given, truth, reach), _near(truth, given, reach)
            total = precision + recall
            sums[k] = 2 * precision * recall / total if total else 0.0, 1
    if sums[:, 1].any():
        sums[-1] = sums[:, 0].sum() / sums[:, 1].sum(), 1
    return sums


def boundary_metrics(
    sums: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Reads the boundary F1 from the sum of arrays of `boundary_counts`.

    Args:
      sums: `[K + 1, 2]`.
      names: names of the classes; by default their numbers.

    Returns:
      `boundary_f1`, the mean over images, and `boundary_f1/<name>`, the mean over the
      images with that class; in [0, 1], NaN where there are none.

    Raises:
      ValueError: if the sums have another shape.

    Example:
      >>> label = np.eye(8, dtype=int)
      >>> boundary_metrics(boundary_counts(label, label, num_classes=2))["boundary_f1"]
      1.0
    """
    sums, names = checked_sums(sums, names, 2)
    keys = (*(f"boundary_f1/{name}" for name in names), "boundary_f1")
    return {
        key: float(total / images) if images else math.nan
        for key, (total, images) in reversed(list(zip(keys, sums, strict=True)))
    }


def trimap_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    widths: Sequence[float],
    ignore_label: int = IGNORE_LABEL,
) -> np.ndarray:
    """Confusion counts of the pixels near a boundary, for bands of several widths.

    The trimap of Kohli, Ladicky, Torr, IJCV 2009 (doi 10.1007/s11263-008-0202-0), as
    DeepLab plots it (Chen et al. 2015, arXiv 1412.7062, section 5.2): there the band
    surrounds the ignored margin of PASCAL VOC's objects. Here a pixel is in the band of
    width w if a pixel of another label, the ignored one included, is at most w
    pixels away: the same on such labels, and defined on those without a margin.

    Args:
      label: true class of each pixel, integers `[H, W]`.
      prediction: class given to each pixel, integers `[H, W]`.
      num_classes: number of classes, K.
      widths: W distances in pixels, growing.
      ignore_label: label of pixels that do not count.

    Returns:
      int64 `[W, K, K]`, rows truth, columns prediction. A pixel whose label or
      prediction is outside 0 .. K - 1 is not counted.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional, or the widths do not
        grow from above 0.
    """
    check_widths(widths)
    label, prediction = checked(label, prediction)
    counted = (label != ignore_label) & (label >= 0) & (label < num_classes)
    counted &= (prediction >= 0) & (prediction < num_classes)
    distance = _distance_to_another_label(label)[counted]
    band = np.searchsorted(np.asarray(widths) + _ROUNDING, distance)
    cells = (band * num_classes + label[counted]) * num_classes + prediction[counted]
    shape = (len(widths) + 1, num_classes, num_classes)
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
    return counts[:-1].cumsum(0)


def trimap_metrics(counts: np.ndarray, widths: Sequence[float]) -> dict[str, float]:
    """Reads mean IoU and pixel accuracy of each band from added `trimap_counts`.

    Args:
      counts: `[W, K, K]`.
      widths: those that they were counted with.

    Returns:
      `trimap_mean_iou/<width>` and `trimap_pixel_accuracy/<width>`, in [0, 1], or NaN
      where there is no boundary.

    Raises:
      ValueError: if there is not one matrix for each width.

    Example:
      >>> label = np.array([[0, 0, 0, 1]])
      >>> counts = trimap_counts(label, 0 * label, num_classes=2, widths=(1, 2))
      >>> metrics = trimap_metrics(counts, (1, 2))
      >>> metrics["trimap_pixel_accuracy/1"], metrics["trimap_mean_iou/1"]
      (0.5, 0.25)
    """
    counts = np.asarray(counts)
    if counts.ndim != 3 or len(counts) != len(widths):
        raise ValueError(
            f"counts must be [W, K, K] for {len(widths)} widths, got {counts.shape}"
        )
    metrics = {}
    for width, matrix in zip(widths, counts, strict=True):
        of_band = semantic_metrics(matrix)
        for name in ("mean_iou", "pixel_accuracy"):
            metrics[f"trimap_{name}/{width:g}"] = of_band[name]
    return metrics


def check_widths(widths: Sequence[float]) -> None:
    """Checks that the widths of bands are numbers that grow from above 0.

    Raises:
      ValueError: if they are not.
    """
    numbers = [w for w in widths if isinstance(w, int | float) and w > 0]
    if len(numbers) != len(widths) or numbers != sorted(set(numbers)):
        raise ValueError(
            f"widths must be numbers of pixels that grow from above 0, got {widths!r}"
        )


def checked(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64, so that no sum of them overflows.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    if label.ndim != 2 or label.shape != prediction.shape:
        raise ValueError(
            "label and prediction must have one shape [H, W], got "
            f"{label.shape} and {prediction.shape}"
        )
    return label.astype(np.int64), prediction.astype(np.int64)


def checked_sums(
    sums: np.ndarray, names: Sequence[str] | None, columns: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sums of the classes and of the images as float64, and the names of the classes.

    Raises:
      ValueError: if they are not `[K + 1, columns]`.
    """
    sums = np.asarray(sums, np.float64)
    names = tuple(map(str, range(len(sums) - 1))) if names is None else tuple(names)
    if sums.shape != (len(names) + 1, columns):
        raise ValueError(
            f"sums must be [K + 1, {columns}] for {len(names)} classes, got {sums.shape}"
        )
    return sums, names


def edges(classes: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Marks pixels that have a 4-neighbour of another class, both being counted."""
    edge = np.zeros(classes.shape, bool)
    for axis in (0, 1):
        value, counts, marks = (
            np.moveaxis(x, axis, 0) for x in (classes, counted, edge)
        )
        differ = (value[1:] != value[:-1]) & counts[1:] & counts[:-1]
        marks[1:] |= differ
        marks[:-1] |= differ
    return edge


def _near(points: np.ndarray, others: np.ndarray, reach: float) -> float:
    """Fraction of points `[N, 2]` with one of the others at most `reach` away."""
    if not len(points) or not len(others):
        return 0.0
    bound = reach + _ROUNDING
    distance, _ = KDTree(others).query(points, distance_upper_bound=bound)
    return float(np.isfinite(distance).mean())


def _distance_to_another_label(label: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of another label; infinite if all are one."""
    distance = np.full(label.shape, np.inf)
    numbers, index = np.unique(label, return_inverse=True)
    if len(numbers) == 1:
        return distance
    index = index.reshape(label.shape) + 1
    for k, box in enumerate(ndimage.find_objects(index), 1):
        # One pixel more on each side: no other label beyond it can be nearer.
        wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        inside = index[wide] == k
        found = ndimage.distance_transform_edt(inside)
        distance[wide][inside] = found[inside]
    return distance
