"""Operators on small maps: grids of numbers, coloured by where the values come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from segjax.viz.rendering import INK, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HUES = np.array(
    [
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (213, 94, 0),
        (0, 114, 178),
        (240, 228, 66),
        (120, 120, 120),
        (150, 90, 40),
    ]
)
"""Colours of the input's pixels, in row-major order (Okabe and Ito's palette)."""

_PALE, _LINE = "#b5b5b5", "#c9c9c9"
_CELL = 0.42
_GAP = 0.9
_TITLE_LINE = 0.42


class Grid(NamedTuple):
    """One map of numbers, as it is plotted.

    Attributes:
      values: `[H, W]`.
      title: what stands above it; lines are broken at "\\n".
      colors: of each cell, `[H, W, 3]`, 0 to 255; white by default.
      blocks: side in cells of blocks that get a heavier border; 0 for none.
      labels: text of each cell `[H, W]` where it is not its value.
    """

    values: np.ndarray
    title: str = ""
    colors: np.ndarray | None = None
    blocks: int = 0
    labels: np.ndarray | None = None


def origin_colors(weights: np.ndarray, hues: np.ndarray = HUES) -> np.ndarray:
    """Mixes for each output pixel the colours of the input pixels that it is made of.

    Args:
      weights: `[N, H, W]`, what each of N input pixels gives to each output pixel: the
        operator's answer to N images with a single 1.
      hues: colour of each input pixel, 0 to 255, at least N rows.

    Returns:
      uint8 `[H, W, 3]`: white where nothing comes from the input, and the stronger the
      more does.

    Raises:
      ValueError: if there are more input pixels than hues.

    Example:
      >>> weights = np.array([[[1.0, 0.5, 0.0]], [[0.0, 0.5, 0.0]]])
      >>> origin_colors(weights, np.array([(0, 0, 0), (255, 0, 0)]))[0, 2].tolist()
      [255, 255, 255]
    """
    weights = np.abs(np.asarray(weights, np.float64))
    if len(weights) > len(hues):
        raise ValueError(f"weights are of {len(weights)} pixels, but hues {len(hues)}")
    total = weights.sum(0)
    fractions = weights / np.where(total > 0, total, 1.0)
    mixed = np.einsum("nhw,nc->hwc", fractions, hues[: len(weights)])
    most = total.max() if total.max() > 0 else 1.0
    strength = np.where(total > 0, 0.45 + 0.4 * total / most, 0.0)[..., None]
    return np.rint(255 * (1 - strength) + mixed * strength).astype(np.uint8)


def plot_grids(rows: Sequence[Sequence[Grid | str]], *, dpi: int = 110) -> Image.Image:
    """Plots maps of numbers side by side, all with cells of one size.

    Args:
      rows: from top to bottom; each holds maps, and the signs between them ("+", "=").
      dpi: dots in an inch.

    Returns:
      An RGB picture.

    Raises:
      ValueError: if there is nothing to plot.
    """
    if not any(isinstance(item, Grid) for row in rows for item in row):
        raise ValueError("rows hold no grid to plot")
    sizes = [_row_size(row) for row in rows]
    width = max(w for w, _ in sizes) + 0.4
    height = sum(
        h + _title_height(row) for row, (_, h) in zip(rows, sizes, strict=True)
    )
    height += 0.3
    figure, ax = _canvas(width, height)
    top = 0.1
    for row, (_, tall) in zip(rows, sizes, strict=True):
        left = 0.2
        title = _title_height(row)
        middle = top + title + tall / 2
        for item in row:
            if isinstance(item, str):
                center = left + _sign_width(item) / 2 - _GAP / 2
                ax.text(
                    center, middle, item, ha="center", va="center", size=15, color=INK
                )
                left += _sign_width(item)
            else:
                _plot_grid(ax, item, left, middle - item.values.shape[0] / 2)
                left += _wide(item) + _GAP
        top += tall + title
    return to_picture(figure, dpi)


def _row_size(row: Sequence[Grid | str]) -> tuple[float, float]:
    """Width and height in cells."""
    widths = [
        _sign_width(item) if isinstance(item, str) else _wide(item) + _GAP
        for item in row
    ]
    heights = [item.values.shape[0] for item in row if isinstance(item, Grid)]
    return sum(widths) - _GAP, max(heights)


def _title_height(row: Sequence[Grid | str]) -> float:
    titles = [item.title for item in row if isinstance(item, Grid) and item.title]
    return 0.35 + _TITLE_LINE * max((t.count("\n") + 1 for t in titles), default=0)


def _sign_width(sign: str) -> float:
    return _GAP + 0.38 * len(sign)


def _wide(grid: Grid) -> float:
    """Width in cells: that of the map or of its title."""
    longest = max(map(len, grid.title.split("\n")))
    return max(grid.values.shape[1], 0.225 * longest)


def _canvas(width: float, height: float) -> tuple:
    """An empty figure, sizes in cells, y downwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_CELL * width, _CELL * height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    return figure, ax


def _plot_grid(ax: Axes, grid: Grid, left: float, top: float) -> None:
    from matplotlib.patches import Rectangle

    height, width = grid.values.shape
    colors = np.full((height, width, 3), 255) if grid.colors is None else grid.colors
    for i, j in np.ndindex(height, width):
        value, color = grid.values[i, j], np.asarray(colors[i, j], float)
        ax.add_patch(
            Rectangle((left + j, top + i), 1, 1, fc=color / 255, ec=_LINE, lw=0.8)
        )
        empty = value == 0 and (color > 250).all()
        label = _number(float(value)) if grid.labels is None else str(grid.labels[i, j])
        ax.text(
            *(left + j + 0.5, top + i + 0.52, label),
            ha="center",
            va="center",
            size=10 if len(label) < 4 else 8 if len(label) < 6 else 6.5,
            color=_PALE if empty else INK,
        )
    step = grid.blocks or max(height, width)
    for i in range(0, height, step):
        for j in range(0, width, step):
            size = min(step, width - j), min(step, height - i)
            frame = Rectangle((left + j, top + i), *size, fill=False, ec=INK, lw=1.4)
            ax.add_patch(frame)
    ax.text(left, top - 0.18, grid.title, ha="left", va="bottom", size=9.5, color=INK)


def _number(value: float) -> str:
    """Writes a number in few signs."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}")
