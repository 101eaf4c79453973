"""A comparison of runs as text for a terminal, or as Markdown for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segjax.metrics.intervals import RESAMPLES, Interval
from segjax.runs.compare import Comparison


def comparison_text(comparison: Comparison, *, markdown: bool = False) -> str:
    """Writes a comparison as tables.

    Args:
      comparison: what was compared.
      markdown: whether tables have the form of Markdown; else their columns are padded.

    Returns:
      Lines of text: what differs, the means, the differences to the first setting.
    """
    form = _markdown if markdown else _padded
    settings, first = comparison.settings, comparison.settings[0]
    count = sum(len(setting.runs) for setting in settings)
    paragraphs = [
        f"{count} runs of {len(settings)} settings, measured on {comparison.split}."
        if len(settings) > 1
        else f"{count} runs that differ in the seed alone, measured on {comparison.split}."
    ]
    if first.values and "=" not in first.label:  # letters stand for the values
        head = ["key", *(setting.label for setting in settings)]
        rows = [
            [key, *(_shown(s.values[key]) for s in settings)] for key in first.values
        ]
        paragraphs.append("\n".join(form([head, *rows])))
    head = ["setting", "runs", *comparison.metrics]
    rows = [
        [
            setting.label,
            str(len(setting.runs)),
            *(_interval(setting.interval(metric)) for metric in comparison.metrics),
        ]
        for setting in settings
    ]
    paragraphs.append("\n".join(form([head, *rows])))
    paragraphs.append(
        "Mean over runs, and its interval of 95 % (Student's t): what other seeds would give."
    )
    if comparison.differences:
        head = [f"difference to {first.label}", "metric", "over runs", "over images"]
        rows = [
            [
                x.label,
                x.metric,
                _interval(x.over_runs, signed=True),
                _interval(x.over_images, signed=True) if x.over_images else "-",
            ]
            for x in comparison.differences
        ]
        paragraphs.append("\n".join(form([head, *rows])))
        counts = {x.images for x in comparison.differences if x.over_images}
        text = "Over runs: the difference of the means (Welch's t)."
        if counts:
            images = " or ".join(map(str, sorted(counts)))
            text += (
                f" Over images: the mean difference of {images} single images (paired "
                f"bootstrap, {RESAMPLES:,} resamples): what other images would give."
            )
        elif comparison.unmeasured:
            text += (
                f" {comparison.unmeasured} runs have no figures of single images; --images "
                "measures them, for intervals over images."
            )
        paragraphs.append(text)
    return "\n\n".join(paragraphs)


def _interval(found: Interval, *, signed: bool = False) -> str:
    """An estimate and its ends.

    Example:
      >>> _interval(Interval(0.5, 0.25, 0.75)), _interval(Interval(0.5, math.nan, math.nan))
      ('0.5000 [0.2500, 0.7500]', '0.5000')
    """
    sign = "+" if signed else ""
    if math.isnan(found.low):
        return f"{found.estimate:{sign}.4f}"
    return f"{found.estimate:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _padded(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]
