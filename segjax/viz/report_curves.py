"""Curves as SVG within a page: text, axes and lines that follow the page's colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.viz.report_tables import escape
from segjax.viz.series import (
    details_of,
    is_noisy,
    plotted_keys,
    series_of,
    smooth,
    title_of,
    wants_log_scale,
)

_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 34
_MOST_POINTS = 300
_MOST_DETAILS = 6
_LINES = 7
"""How many colours of lines the page has: classes `line0` to `line6`."""


def curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Plots what a run logged over its steps, as `segjax.viz.plot_curves` does.

    Args:
      rows: lines of the log.

    Returns:
      HTML, a figure for each quantity; empty where there is nothing to plot.
    """
    series = series_of(rows)
    keys = plotted_keys(series)
    splits = list(dict.fromkeys(split for key in keys for split in series[key]))
    figures = []
    for key in keys:
        lines = [
            (split, splits.index(split), points, False)
            for split, points in series[key].items()
        ]
        details = details_of(key, series)
        if len(details) <= _MOST_DETAILS:
            lines += [
                (name, len(splits) + i, points, True)
                for i, (name, per_split) in enumerate(details.items())
                for points in per_split.values()
            ]
        is_log = wants_log_scale(key, series[key]) and all(
            points[:, 1].min() > 0 for _, _, points, _ in lines
        )
        figures.append(_figure(key, lines, is_log))
    return "".join(figures)


def _figure(
    key: str, lines: Sequence[tuple[str, int, np.ndarray, bool]], is_log: bool
) -> str:
    """One quantity: a plot and its legend."""
    title = title_of(key) + (", log scale" if is_log else "")
    values = np.concatenate([points for _, _, points, _ in lines])
    axes = _Axes(values, is_log)
    said, plotted, legend = [], [axes.svg()], []
    for name, number, points, dashed in lines:
        style = f"line{number % _LINES}" + " dashed" * dashed
        noisy = is_noisy(key, points)
        if noisy:
            plotted.append(axes.line(points, f"{style} faint"))
            points = np.stack([points[:, 0], smooth(points[:, 1])], 1)
        plotted.append(axes.line(points, style))
        label = f"{name}, smoothed" if noisy else name
        legend.append(
            f'<li><svg class="key" viewBox="0 0 20 8" aria-hidden="true"><path class="{style}" '
            f'd="M0 4H20"/></svg><bdi>{escape(label)}</bdi></li>'
        )
        said.append(f"{name} from {points[0, 1]:.4g} to {points[-1, 1]:.4g}")
    description = f"{title} over steps: {'; '.join(said)}"
    return (
        f"<figure class=curve><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-label="{escape(description)}">{"".join(plotted)}</svg>'
        f"<ul class=legend>{''.join(legend)}</ul></figure>"
    )


class _Axes:
    """Axes of a plot, which place points."""

    def __init__(self, points: np.ndarray, is_log: bool):
        self.is_log = is_log
        self.x0, self.x1 = _span(points[:, 0])
        y = np.log10(points[:, 1]) if is_log else points[:, 1]
        low, high = _span(y)
        self.y0, self.y1 = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def svg(self) -> str:
        """Lines of the grid, their values, and the name of the x axis."""
        parts = []
        for value in ticks(self.y0, self.y1, 5):
            if self.is_log and value != round(value) and self.y1 - self.y0 > 2:
                continue
            shown = 10**value if self.is_log else value
            y = self._y(value)
            parts.append(
                f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{shown:.4g}</text>'
            )
        bottom = _HEIGHT - _BOTTOM
        for value in ticks(self.x0, self.x1, 5):
            if value == round(value):
                parts.append(
                    f'<text x="{self._x(value):.1f}" y="{bottom + 15}" '
                    f'text-anchor="middle">{value:,.0f}</text>'
                )
        parts.append(
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" '
            'text-anchor="middle">step</text>'
        )
        return "".join(parts)

    def line(self, points: np.ndarray, style: str) -> str:
        """A line through points `[n, 2]`; few of them are dotted, too."""
        y = np.log10(points[:, 1]) if self.is_log else points[:, 1]
        placed = [
            (self._x(a), self._y(b))
            for a, b in thinned(np.stack([points[:, 0], y], 1)).tolist()
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        dots = "".join(
            f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
            for x, y in (placed if len(placed) <= 30 else ())
        )
        return f'<path class="{style}" d="M{path}"/>{dots}'

    def _x(self, value: float) -> float:
        wide = _WIDTH - _LEFT - _RIGHT
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * wide

    def _y(self, value: float) -> float:
        tall = _HEIGHT - _TOP - _BOTTOM
        return _TOP + (self.y1 - value) / (self.y1 - self.y0) * tall


def _span(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest value, or a little around them where they are one."""
    low, high = float(values.min()), float(values.max())
    if high > low:
        return low, high
    around = abs(low) / 2 or 0.5
    return low - around, high + around


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within an interval: 1, 2 or 5 times a power of ten apart.

    Args:
      low: the least value.
      high: the largest one, above it.
      most: how many steps there may be.

    Returns:
      The values.

    Example:
      >>> ticks(0.03, 1.0, 5)
      [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(
        power * m for m in (1, 2, 5, 10, 20) if (high - low) / most <= power * m
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def thinned(points: np.ndarray) -> np.ndarray:
    """Leaves at most some hundred points: of each stretch its least and its largest value.

    Args:
      points: `[n, 2]`, x and y, by x.

    Returns:
      Some of them, in their order.
    """
    if len(points) <= _MOST_POINTS:
        return points
    kept = {0, len(points) - 1}
    for part in np.array_split(np.arange(len(points)), _MOST_POINTS // 2):
        kept |= {
            int(part[points[part, 1].argmin()]),
            int(part[points[part, 1].argmax()]),
        }
    return points[sorted(kept)]
