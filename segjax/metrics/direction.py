"""Of which metrics more is better, of which less, and of which neither."""

from __future__ import annotations

import math
from collections.abc import Mapping

LOWER_IS_BETTER = frozenset(
    {
        *("pixel_error", "em_pixel_error", "rand_error", "rand_error_at_0.5"),
        *("warping_error", "warping_error_at_0.5"),
        *("surface_distance", "hausdorff_95", "hausdorff", "loss"),
    }
)
"""Errors: 0 is the best."""

LOWER_ENDINGS = ("_error", "_distance", "_loss")
"""Endings of the names of errors, those from outside among them."""

NEITHER = frozenset(
    {
        *("classes_absent", "sections", "rand_threshold", "warping_threshold"),
        "surface_undefined",
    }
)
"""Names reported beside the metrics that say nothing of how good a network is."""


def score(metrics: Mapping[str, float | None], name: str) -> float:
    """Returns a metric so that more is better: an error with its sign turned.

    Args:
      metrics: by name; None or NaN where one is undefined.
      name: the metric.

    Returns:
      The score; minus infinity where the metric is missing or undefined.

    Example:
      >>> score({"mean_iou": 0.75}, "mean_iou"), score({"rand_error": 0.25}, "rand_error")
      (0.75, -0.25)
    """
    value = metrics.get(name)
    if value is None or math.isnan(value):
        return -math.inf
    kind = name.partition("/")[0]
    lower = kind in LOWER_IS_BETTER or kind.endswith(LOWER_ENDINGS)
    return -float(value) if lower else float(value)
