"""Curves of a run, and confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from segjax.viz.series import (
    Series,
    details_of,
    is_noisy,
    plotted_keys,
    series_of,
    smooth,
    title_of,
    wants_log_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#333333"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")


def plot_curves(
    rows: Sequence[Mapping[str, Any]], path: str | Path | IO[bytes]
) -> None:
    """Plots what a run logged over its steps: loss, rate, metrics.

    Args:
      rows: lines of the log: `step`, `split` ("train" if it is not given), and
        numbers by name; None and what is not finite number are gaps. `iou/<class>` is plotted
        beside `mean_iou`. Six quantities are plotted: the best known first.
      path: PNG, PDF or SVG to write; a file that is open becomes a PNG.

    Raises:
      ValueError: if there is nothing to plot.
    """
    series = series_of(rows)
    panels = plotted_keys(series)
    if not panels:
        raise ValueError("rows hold no numbers to plot")
    columns = min(3, len(panels))
    height = math.ceil(len(panels) / columns)
    figure = _figure(4.6 * columns, 3.1 * height)
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    splits = list(dict.fromkeys(s for key in panels for s in series[key]))
    for ax, key in zip(axes, panels, strict=False):
        _plot_curves(ax, key, series, splits)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.savefig(path)


def _figure(width: float, height: float) -> Figure:
    """Makes an empty figure, sizes in inches, that no window or global state knows of."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), layout=layout, dpi=120)


def _plot_curves(
    ax: Axes,
    key: str,
    series: Series,
    splits: Sequence[str],
) -> None:
    """Plots one quantity, a line for each split."""
    details = details_of(key, series)
    for split, points in series[key].items():
        color = _LINES[splits.index(split) % len(_LINES)]
        many = is_noisy(key, points)
        if many:
            ax.plot(*points.T, color=color, lw=0.8, alpha=0.3)
        marker = "o" if len(points) <= 30 else None
        y = smooth(points[:, 1]) if many else points[:, 1]
        label = f"{split}, smoothed" if many else split
        ax.plot(
            points[:, 0], y, color=color, lw=1.8, marker=marker, ms=3.5, label=label
        )
    for i, (name, per_split) in enumerate(details.items() if len(details) <= 6 else ()):
        for points in per_split.values():
            color = _LINES[(i + len(splits)) % len(_LINES)]
            dot = "o" if len(points) == 1 else None  # a line needs two points
            ax.plot(*points.T, ":", color=color, lw=1.3, marker=dot, ms=3.5, label=name)
    if wants_log_scale(key, series[key]):
        ax.set_yscale("log")
    _dress(ax, title_of(key))
    if len(splits) > 1 or details:
        ax.legend(frameon=False, fontsize=8, labelcolor=_INK)


def _dress(ax: Axes, title: str) -> None:
    """Gives axes the look that all curves share."""
    ax.set_title(title, loc="left", fontsize=11, color=_INK, fontweight="bold")
    ax.set_xlabel("step", color=_INK, fontsize=9)
    ax.grid(color="#dddddd", lw=0.6)
    ax.tick_params(colors=_INK, labelsize=8, length=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#bbbbbb")
    ax.margins(x=0.02)


def plot_confusion(
    counts: np.ndarray, names: Sequence[str], path: str | Path | IO[bytes]
) -> None:
    """Plots a confusion matrix: the fraction of each true class, and the counts.

    Up to six classes have their counts in each field; with more, each row says how many
    pixels it has. A class that is not in the truth has an empty row.

    Args:
      counts: `[K, K]`, rows truth.
      names: names of the classes, K.
      path: PNG, PDF or SVG to write; a file that is open becomes a PNG.

    Raises:
      ValueError: if the names do not fit.
    """
    counts = np.asarray(counts)
    k = len(names)
    if counts.shape != (k, k):
        raise ValueError(f"counts must be [{k}, {k}] like names, got {counts.shape}")
    truth = counts.sum(1)
    fractions = counts / np.maximum(truth, 1)[:, None]
    few = k <= 6
    cell = 1.25 if few else 0.44
    figure = _figure(cell * k + 2.4, cell * k + 1.7)
    ax = figure.subplots()
    ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(k, k):
        if not truth[i] or (not few and fractions[i, j] < 0.005):
            continue
        text = f"{fractions[i, j]:.1%}" if few else f"{100 * fractions[i, j]:.0f}"
        text += f"\n{int(counts[i, j]):,}" if few else ""
        color = "white" if fractions[i, j] > 0.55 else _INK
        ax.text(
            j, i, text, ha="center", va="center", color=color, fontsize=9 if few else 7
        )
    rows = (
        names
        if few
        else [f"{n}  {_short(t)}" for n, t in zip(names, truth, strict=True)]
    )
    ax.set_xticks(range(k), names, rotation=0 if few else 90)
    ax.set_yticks(range(k), rows)
    ax.set_xticks(np.arange(k - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(k - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=1.5)
    ax.tick_params(which="both", length=0, colors=_INK, labelsize=9 if few else 8)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted", color=_INK)
    ax.set_ylabel("true" if few else "true, with pixels", color=_INK)
    unit = "fraction of each true class" if few else "percent of each true class"
    ax.set_title(unit, loc="left", fontsize=11, color=_INK, fontweight="bold")
    figure.savefig(path)


def _short(count: float) -> str:
    """Writes a number of pixels in three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(int(count))
