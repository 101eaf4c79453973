"""Figures as pictures, and maps side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#222222"


def to_picture(figure: Figure, dpi: int = 110) -> Image.Image:
    """Renders a figure.

    Args:
      figure: one that belongs to no window.
      dpi: dots in an inch.

    Returns:
      An RGB picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def plot_maps(
    panels: Sequence[tuple[str, np.ndarray]],
    *,
    columns: int = 4,
    colormap: str = "magma",
    low: float | None = None,
    side: float = 2.5,
    dpi: int = 110,
) -> Image.Image:
    """Plots maps and pictures in rows, captions above, pixels crisp.

    Args:
      panels: caption and map; `[H, W]` is plotted by the colour map between its own
        smallest and largest value, `[H, W, 3]` uint8 as it is.
      columns: panels in a row.
      colormap: of Matplotlib.
      low: value of the colour map's lower end, where it is not the map's smallest.
      side: width of a panel in inches.
      dpi: dots in an inch.

    Returns:
      An RGB picture.

    Raises:
      ValueError: if there is nothing to plot.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("panels hold nothing to plot")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    height, width = np.shape(panels[0][1])[:2]
    lines = max(caption.count("\n") + 1 for caption, _ in panels)
    tall = side * height / width + 0.16 + 0.19 * lines
    figure = Figure(
        figsize=(columns * (side + 0.12), rows * tall), layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (caption, panel) in zip(axes, panels, strict=False):
        ax.imshow(
            panel, cmap=colormap, vmin=low, interpolation="nearest", aspect="auto"
        )
        ax.set_title(caption, loc="left", size=9.5, color=INK, pad=4)
    for ax in axes:
        ax.set_axis_off()
    return to_picture(figure, dpi)
