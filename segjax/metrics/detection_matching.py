"""Which detections are right, and how precision falls as recall grows: COCO's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of similarity, T."""

RECALLS = np.linspace(0, 1, 101)
"""At which precision is read, R."""

_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True)
class Matches:
    """Detections of one class in one image, highest score first.

    Attributes:
      scores: float64 `[D]`.
      matched: whether each has an object, bool `[A, T, D]`, in A ranges of sizes.
      ignored: whether each is neither right nor wrong, bool `[A, T, D]`.
      positives: objects that count in each range, int `[A]`.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    positives: np.ndarray


def matched_greedily(
    likeness: np.ndarray, ignored: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each detection the object it is most alike of those that are left.

    An object that counts goes before one that is ignored, and of equals the last one is
    taken. A crowd may be taken again and again.

    Args:
      likeness: `[D, G]`, detections in order of their scores.
      ignored: bool `[A, G]`, objects that do not count in each range of sizes.
      crowd: bool `[G]`.

    Returns:
      Whether each detection is matched, and whether it is to be ignored for that, bool
      `[A, T, D]` each.
    """
    thresholds = np.minimum(THRESHOLDS, _ALMOST_ONE)[:, None]
    D, G = likeness.shape
    shape = (len(ignored), len(THRESHOLDS))
    matched, passed = np.zeros((*shape, D), bool), np.zeros((*shape, D), bool)
    free = np.ones((*shape, G), bool)
    counts = ~ignored[:, None]
    alike = likeness.max(1, initial=-1.0) >= thresholds[0, 0]
    rows, columns = np.indices(shape)
    for d in np.flatnonzero(alike):
        possible = free & (likeness[d] >= thresholds)
        best = possible & counts
        pool = np.where(best.any(-1, keepdims=True), best, possible)
        ranked = np.where(pool, likeness[d], -1.0)[..., ::-1]
        taken = G - 1 - ranked.argmax(-1)
        found = pool.any(-1)
        matched[..., d] = found
        passed[..., d] = found & ignored[rows, taken]
        free[rows, columns, taken] &= ~found | crowd[taken]
    return matched, passed


def precision_and_recall(
    images: Sequence[Matches], size: int, limit: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the curve of a class, with precision made to fall as recall grows.

    Args:
      images: its matches in each image.
      size: which range of sizes.
      limit: detections of an image that count.

    Returns:
      Precision at each recall `[T, R]`, and the largest recall `[T]`; None where there is
      no object.
    """
    positives = sum(int(image.positives[size]) for image in images)
    if not positives:
        return None
    scores = np.concatenate([image.scores[:limit] for image in images])
    order = np.argsort(-scores, kind="stable")
    matched, passed = (
        np.concatenate([x[size][:, :limit] for x in parts], axis=1)[:, order]
        for parts in ([m.matched for m in images], [m.ignored for m in images])
    )
    right = (matched & ~passed).cumsum(1).astype(np.float64)
    wrong = (~matched & ~passed).cumsum(1).astype(np.float64)
    recall = right / positives
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for t in range(len(THRESHOLDS)):
        places = np.searchsorted(recall[t], RECALLS, side="left")
        inside = places < recall.shape[1]
        found[t, inside] = precision[t, places[inside]]
    largest = recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))
    return found, largest
