"""Metrics of neuron segmentation in electron micrographs: pixel, Rand, warping.

Cells are 4-connected and the membrane between them is 8-connected, as in the software
of the ISBI 2012 challenge (Fiji, Trainable Segmentation), so a line of membrane one pixel
wide that runs diagonally does separate two cells. A pixel is cell where its
probability is greater than the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segjax.metrics.rand import (
    THRESHOLDS,
    adapted_rand_error,
    check_same_shape,
    connected_cells,
)
from segjax.metrics.warping import warping_error
from segjax.types import IGNORE_LABEL

DECISION = 0.5
"""The threshold at which the probabilities of two classes are decided."""

_ROUNDING = 1e-3
"""How far beyond [0, 1] a sum of bfloat16 may carry a probability."""

EM_COLUMNS = (
    "sections",
    "pixels",
    "wrong_pixels",
    "rand_sections",
    "rand_error",
    "rand_precision",
    "rand_recall",
    "warping_error",
)
"""The columns of a row of `em_metrics`; each may be added up over sections."""


def pixel_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Fraction of pixels on which two maps disagree.

    Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142): the
    squared distance of two binary maps, over the number of pixels.

    Example:
      >>> pixel_error(np.array([[1, 1], [0, 0]]), np.array([[1, 0], [0, 0]]))
      0.25
    """
    check_same_shape(truth, prediction)
    return float(np.mean(truth != prediction))


def em_metrics(
    probability: np.ndarray,
    label: np.ndarray,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    cell_class: int = 1,
    ignore_label: int = IGNORE_LABEL,
    membrane: str = "segment",
) -> np.ndarray:
    """Measures one section: an array that may be added to those of other sections.

    The true cells are the 4-connected components of the cell class. Ignored pixels
    are in no cell, right whatever was predicted, and not among the pixels.
    A section of zeros changes no sum, so that processes may
    pad what they exchange. `summarize` turns the sum into metrics.

    Args:
      probability: of the cell class, `[H, W]`, in [0, 1].
      label: class of each pixel, integers `[H, W]`.
      thresholds: T thresholds of the probability, each in [0, 1].
      cell_class: the label of the inside of cells; all others are membrane.
      ignore_label: label of pixels that do not count.
      membrane: see `adapted_rand_error`.

    Returns:
      float64 `[1 + T, len(EM_COLUMNS)]`: the decision at 0.5, then the thresholds. In a
      section without cells the Rand columns are zero, `rand_sections` too; a
      section without a counted pixel is zero altogether.

    Raises:
      ValueError: if the shapes differ, or a probability is outside [0, 1] or NaN.
    """
    probability, label = np.asarray(probability), np.asarray(label)
    check_same_shape(label, probability)
    low, high = probability.min(), probability.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"probability must be in [0, 1], got {low} .. {high}")
    counted = label != ignore_label
    truth = (label == cell_class) & counted
    cells = connected_cells(truth)
    rows: dict[float, tuple[float, ...]] = {}
    for threshold in (DECISION, *thresholds):
        if threshold not in rows:
            cell = probability > threshold
            rand = adapted_rand_error(cells, connected_cells(cell), membrane=membrane)
            rows[threshold] = _row(truth, cell & counted, int(counted.sum()), rand)
    return np.array([rows[threshold] for threshold in (DECISION, *thresholds)])


def _row(
    truth: np.ndarray, cell: np.ndarray, pixels: int, rand: tuple[float, float, float]
) -> tuple[float, ...]:
    """One row of `em_metrics`, in the order of `EM_COLUMNS`."""
    if not pixels:
        return (0.0,) * len(EM_COLUMNS)
    has_cells = not math.isnan(rand[0])
    wrong = np.count_nonzero(truth != cell)
    warping = warping_error(truth, cell) * truth.size / pixels
    return (1, pixels, wrong, has_cells, *(rand if has_cells else (0, 0, 0)), warping)


def summarize(
    sections: np.ndarray | Sequence[np.ndarray],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """Turns the measurements of sections into the metrics of the set.

    A threshold holds for the whole set: errors are averaged over the sections at each
    threshold, then the threshold with the least mean is taken (the first of equals), for
    the Rand error and for the warping error each its own, as in the ISBI 2012 challenge
    (Arganda-Carreras et al. 2015). The pixel error is that of the decision at 0.5.

    Args:
      sections: arrays of `em_metrics`, `[N, 1 + T, C]` or a list of them, from one
        process or many, in any order; already added up is the same.
      thresholds: those that `em_metrics` was called with.

    Returns:
      `pixel_error`, `rand_error`, `rand_precision`, `rand_recall`, `rand_threshold`,
      `warping_error`, `warping_threshold`; `rand_error_at_0.5` and
      `warping_error_at_0.5`, which need no choice of a threshold;
      `sections`, how many were measured. The Rand metrics are NaN if no section has
      cells, all but `sections` if there is no section.

    Raises:
      ValueError: if the sections were measured at another number of thresholds.

    Example:
      >>> label = np.array([[1, 0, 1], [1, 0, 1]])
      >>> metrics = summarize([em_metrics(label * 0.8, label)])
      >>> metrics["pixel_error"], metrics["rand_error"], metrics["rand_threshold"]
      (0.0, 0.0, 0.1)
    """
    shape = (1 + len(thresholds), len(EM_COLUMNS))
    rows = np.asarray(sections, np.float64)
    if rows.size and rows.shape[-2:] != shape:
        raise ValueError(
            f"sections must be [N, {shape[0]}, {shape[1]}], got {rows.shape}"
        )
    total = dict(zip(EM_COLUMNS, rows.reshape(-1, *shape).sum(0).T, strict=True))

    def mean(column: str, count: str) -> np.ndarray:
        known = total[count] > 0
        nan = np.full(shape[0], np.nan)
        return np.divide(total[column], total[count], out=nan, where=known)

    rand = mean("rand_error", "rand_sections")
    warping = mean("warping_error", "sections")
    # Row 0 is the decision, the thresholds follow.
    best_rand = 1 + int(np.argmin(rand[1:]))
    best_warping = 1 + int(np.argmin(warping[1:]))
    values = {
        "pixel_error": mean("wrong_pixels", "pixels")[0],
        "rand_error": rand[best_rand],
        "rand_precision": mean("rand_precision", "rand_sections")[best_rand],
        "rand_recall": mean("rand_recall", "rand_sections")[best_rand],
        "rand_threshold": np.nan if np.isnan(rand).any() else thresholds[best_rand - 1],
        "warping_error": warping[best_warping],
        "warping_threshold": np.nan
        if np.isnan(warping).any()
        else thresholds[best_warping - 1],
        "rand_error_at_0.5": rand[0],
        "warping_error_at_0.5": warping[0],
        "sections": total["sections"][0],
    }
    return {name: float(value) for name, value in values.items()}
