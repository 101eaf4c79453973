"""The log of a run as series over steps, for curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Series = Mapping[str, Mapping[str, np.ndarray]]
"""`series[key][split]`: `[n, 2]`, step and value."""

_MOST_PANELS = 6
_NOT_PLOTTED = (
    *("step", "sections", "classes_absent", "images_per_second"),
    *("data_wait_fraction", "tflops_per_second", "mfu"),
)
_FIRST = (
    "loss",
    "mean_iou",
    "pixel_error",
    "rand_error",
    "warping_error",
    "learning_rate",
)


def series_of(rows: Sequence[Mapping[str, Any]]) -> Series:
    """Sorts the rows of a log into series; what is not a finite number is left out.

    Example:
      >>> rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]
      >>> series_of(rows)["loss"]["train"].tolist()
      [[1.0, 2.0]]
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for key, value in row.items():
            if key in _NOT_PLOTTED or isinstance(value, bool | str) or value is None:
                continue
            if math.isfinite(value):
                points = found.setdefault(key, {}).setdefault(
                    row.get("split", "train"), []
                )
                points.append((row["step"], value))
    return {
        key: {split: np.array(sorted(points)) for split, points in splits.items()}
        for key, splits in found.items()
    }


def plotted_keys(series: Series) -> list[str]:
    """The quantities that are plotted, at most six: the best known first."""
    keys = [key for key in _FIRST if key in series]
    keys += [key for key in series if key not in keys and not _is_detail(key, series)]
    return keys[:_MOST_PANELS]


def _is_detail(key: str, series: Series) -> bool:
    """Says whether a key is one of many, or follows from one that is plotted."""
    complement = key == "pixel_accuracy" and "pixel_error" in series
    return complement or "/" in key or key.endswith(("_threshold", "_at_0.5"))


def details_of(key: str, series: Series) -> dict[str, Mapping[str, np.ndarray]]:
    """The series of each class that a mean is of, by class: `iou/<class>` of `mean_iou`."""
    start = key.removeprefix("mean_") + "/"
    return {
        name.split("/", 1)[1]: per_split
        for name, per_split in series.items()
        if name.startswith(start) and key.startswith("mean_")
    }


def is_noisy(key: str, points: np.ndarray) -> bool:
    """Whether a series is plotted smoothed, with itself behind."""
    return len(points) > 30 and key in ("loss", "gradient_norm")


def wants_log_scale(key: str, per_split: Mapping[str, np.ndarray]) -> bool:
    """Whether the values of a quantity span so much that a linear axis shows nothing."""
    values = np.concatenate([points[:, 1] for points in per_split.values()])
    wide = values.min() > 0 and values.max() > 30 * values.min()
    return bool(wide) and key != "learning_rate"


def title_of(key: str) -> str:
    """Writes the name of a metric as people do.

    Example:
      >>> title_of("mean_iou")
      'mean IoU'
    """
    words = {"iou": "IoU", "rand": "Rand"}
    return " ".join(words.get(word, word) for word in key.split("_"))


def smooth(values: np.ndarray) -> np.ndarray:
    """Averages over the last twentieth of a run, exponentially, without a start-up bias."""
    keep = 1.0 - 1.0 / max(2.0, len(values) / 20)
    smoothed, mean, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        mean, weight = keep * mean + value, keep * weight + 1.0
        smoothed[i] = mean / weight
    return smoothed
