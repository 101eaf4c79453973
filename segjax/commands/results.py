"""The result of a verb: its metrics for people, and all of it for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segjax import ending

_OF_OBJECTS = ("mean_f1", "panoptic_quality@0.5")
_THRESHOLDS = ("@0.5", "@0.75")
_AT_THRESHOLDS = ("f1", "precision", "recall")
_LEFT_OUT = {
    *("pixel_error", "mean_accuracy", "frequency_weighted_iou", "classes_absent"),
    *("accuracy", "dice", "matching_ap", "mean_matching_ap", "dsb_score"),
}
"""Of pixels and objects, with the kinds of which there are several; what else was measured
was asked for in the config."""


def print_result(result: dict[str, Any]) -> None:
    """Prints one JSON object, the last line of standard output."""
    from segjax.training.run_files.writer import json_line

    ending.say(json_line(result).rstrip())


def metric_lines(result: Mapping[str, Any]) -> list[str]:
    """Writes metrics for people, those of baselines beside those of the network.

    Where objects in pixels are measured, which gives F1 and the like at ten thresholds of
    IoU, the main ones stand for all.

    Args:
      result: of an evaluation; metrics are floats, those of a baseline after its name and
        a slash.

    Returns:
      A line for each metric, after one with names where there are baselines.

    Example:
      >>> print(*metric_lines({"mean_iou": 0.5, "otsu/mean_iou": 0.25}), sep="\\n")
                                     network   otsu
      mean_iou                        0.5000 0.2500
    """
    columns: dict[str, dict[str, float]] = {"network": {}}
    for name, value in result.items():
        if isinstance(value, float):
            baseline, _, metric = name.partition("/")
            column, key = (baseline, metric) if metric in result else ("network", name)
            columns.setdefault(column, {})[key] = value
    names = list(columns["network"])
    if is_short := set(_OF_OBJECTS) <= {*names}:
        names = [name for name in names if _is_main(name)]
    widths = {column: max(len(column), len("0.0000")) for column in columns}
    head = [f"{column:>{width}}" for column, width in widths.items()]
    lines = [" ".join([" " * 30, *head])] if len(columns) > 1 else []
    for name in names:
        cells = [
            f"{values[name]:{widths[column]}.4f}"
            if name in values
            else " " * widths[column]
            for column, values in columns.items()
        ]
        lines.append(" ".join([f"{name:30}", *cells]).rstrip())
    return [*lines, "All others are in the line of JSON:"] if is_short else lines


def _is_main(name: str) -> bool:
    kind, at, threshold = name.partition("@")
    if at and kind in _AT_THRESHOLDS:
        return at + threshold in _THRESHOLDS
    return name.partition("/")[0] not in _LEFT_OUT and kind not in _LEFT_OUT
