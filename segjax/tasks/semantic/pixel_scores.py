"""Counts of pixels and the metrics that are read from them, for either kind of label."""

from __future__ import annotations

import jax
import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.metrics import confusion_counts, semantic_metrics
from segjax.metrics.overlapping import overlapping_counts, overlapping_metrics


def pixel_counts(
    label: np.ndarray, prediction: np.ndarray, spec: LabelSpec
) -> np.ndarray:
    """Counts the pixels of an image by truth and prediction.

    Args:
      label: `[H, W]`, as records hold it.
      prediction: the same of a network.
      spec: the classes.

    Returns:
      `[K, K]`, or `[K, 2, 2]` where classes overlap; rows are the truth.
    """
    if isinstance(spec, OverlappingClasses):
        return overlapping_counts(label, prediction, num_classes=spec.num_classes)
    rows = max(_STRIP // max(label.shape[1], 1), 1)
    total = no_pixels(spec)
    for y in range(0, len(label), rows):
        strip = (label[y : y + rows], prediction[y : y + rows])
        total += np.asarray(_counts(*strip, num_classes=spec.num_classes))
    return total


def pixel_metrics(counts: np.ndarray, spec: LabelSpec) -> dict[str, float]:
    """Reads the metrics from such counts, added up over images."""
    if isinstance(spec, OverlappingClasses):
        return overlapping_metrics(counts, spec.names)
    return semantic_metrics(counts, spec.names)


def no_pixels(spec: LabelSpec) -> np.ndarray:
    """Counts of no image, int64."""
    shape = (2, 2) if isinstance(spec, OverlappingClasses) else (spec.num_classes,)
    return np.zeros((spec.num_classes, *shape), np.int64)


_STRIP = 1 << 22
"""Pixels that are counted at a time; they take 32 MB."""

_counts = jax.jit(confusion_counts, static_argnames="num_classes")
