"""The Rand error: of the pairs of pixels in cells, how many are put together wrongly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of the cell probability among which the best one is looked for."""


def connected_cells(cell: np.ndarray) -> np.ndarray:
    """Numbers the 4-connected components of a map of cells.

    Args:
      cell: bool `[H, W]`, true inside of cells.

    Returns:
      int32 `[H, W]`: 0 membrane, 1 .. n cells.

    Example:
      >>> connected_cells(np.eye(2, dtype=bool)).tolist()
      [[1, 0], [0, 2]]
    """
    components, _ = ndimage.label(np.asarray(cell, bool))
    return components


def adapted_rand_error(
    truth: np.ndarray, prediction: np.ndarray, *, membrane: str = "segment"
) -> tuple[float, float, float]:
    """Foreground-restricted Rand error: one minus the F-score of pairs of pixels.

    Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142). Only pixels inside
    the true cells count. Among all pairs of them: how many that share a predicted
    segment share a cell (precision: falls with mergers), and how many
    that share a cell share a segment (recall: falls with splits)? With `n[i, j]` the
    pixels of true cell i in predicted segment j the three sums of pairs are those of
    n[i, j], of the segments and of the cells; the F-score is twice the first over
    the sum of the others.

    What of pixels inside a true cell that are predicted as membrane?
    The field uses two answers:

    - "segment": they all make up one segment more, membrane inside one
      cell and inside another being predicted as one thing. Pairs are of two
      different pixels. This is SNEMI3D's script and
      `skimage.metrics.adapted_rand_error` 0.26, to which error and, crosswise, the
      other two are equal: its code calls recall what its text calls precision.
    - "pixels": each is a segment of its own, and a pixel makes a pair with itself. This
      is the definition of the ISBI 2012 challenge's software.

    Args:
      truth: integers `[H, W]`, 0 does not count, other numbers are cells.
      prediction: integers `[H, W]`, 0 membrane, other numbers are segments.
      membrane: "segment" or "pixels".

    Returns:
      Error, precision, recall; each in [0, 1]. All are NaN if the truth has no
      pair. Precision is 1 if the prediction joins no pair: it claims nothing wrong.

    Raises:
      ValueError: if shapes differ, numbers are negative, or membrane is another word.

    Example:
      >>> two, one = np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])
      >>> error, precision, recall = adapted_rand_error(two, one)
      >>> round(error, 3), round(precision, 3), recall
      (0.5, 0.333, 1.0)
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    check_same_shape(truth, prediction)
    if membrane not in ("segment", "pixels"):
        raise ValueError(f'membrane must be "segment" or "pixels", got {membrane!r}')
    inside = truth != 0
    cells, segments = (
        truth[inside].astype(np.int64),
        prediction[inside].astype(np.int64),
    )
    if cells.size == 0:
        return math.nan, math.nan, math.nan
    if cells.min() < 0 or segments.min() < 0:
        raise ValueError("truth and prediction must not have negative numbers")

    width = int(segments.max()) + 1
    bins = cells * width + segments
    # A table of all pairs is fast as long as it is small; beyond it, sort.
    if (int(cells.max()) + 1) * width <= 1 << 22:
        sizes = np.bincount(bins)
        joint = np.flatnonzero(sizes)
        sizes = sizes[joint]
    else:
        joint, sizes = np.unique(bins, return_counts=True)
    lone = 0
    cell_sizes = np.bincount(cells)
    segment_sizes = np.bincount(segments)
    if membrane == "pixels":
        lone = int(segment_sizes[0])
        segment_sizes, sizes = segment_sizes[1:], sizes[joint % width > 0]
    self_pairs = 0 if membrane == "pixels" else cells.size
    both = _squares(sizes) + lone - self_pairs
    claimed = _squares(segment_sizes) + lone - self_pairs
    true = _squares(cell_sizes) - self_pairs
    if true == 0:
        return math.nan, math.nan, math.nan
    precision = both / claimed if claimed else 1.0
    return 1.0 - 2.0 * both / (claimed + true), precision, both / true


def rand_error_over_thresholds(
    probability: np.ndarray,
    truth: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    membrane: str = "segment",
) -> np.ndarray:
    """Rand error, precision and recall of a stack at each threshold.

    Each threshold applies to the whole stack: the errors of the sections are averaged
    at each threshold, and the best threshold is the row with the least error. That is the
    order in which the challenge took its minimum; choosing each section's own threshold
    would be kinder than it was.

    Args:
      probability: of the cell class, `[N, H, W]`, in [0, 1].
      truth: numbered cells, integers `[N, H, W]`, 0 does not count.
      thresholds: T thresholds of the probability.
      membrane: see `adapted_rand_error`.

    Returns:
      float64 `[T, 3]`: means of error, precision, recall over the sections
      whose truth has cells; NaN if none has.
    """
    rows = np.array(
        [
            [
                adapted_rand_error(cells, connected_cells(p > t), membrane=membrane)
                for t in thresholds
            ]
            for p, cells in zip(probability, truth, strict=True)
        ]
    )
    rows = rows[~np.isnan(rows).any((1, 2))]
    return rows.mean(0) if len(rows) else np.full((len(thresholds), 3), np.nan)


def _squares(sizes: np.ndarray) -> int:
    """Sum of squares, in integers: exact for any image."""
    sizes = sizes.astype(np.int64)
    return int(sizes @ sizes)


def check_same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raises ValueError unless truth and prediction are of one shape."""
    if np.shape(truth) != np.shape(prediction):
        raise ValueError(
            f"truth and prediction must have one shape, got {np.shape(truth)} and "
            f"{np.shape(prediction)}"
        )
