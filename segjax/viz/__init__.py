"""Pictures. Everything here works on numpy arrays on the host."""

from segjax.viz.pictures import (
    IGNORE_COLOR,
    colorize,
    comparison,
    error_map,
    overlay,
    palette,
    to_display,
)
from segjax.viz.plots import plot_confusion, plot_curves

__all__ = [
    "IGNORE_COLOR",
    "colorize",
    "comparison",
    "error_map",
    "overlay",
    "palette",
    "plot_confusion",
    "plot_curves",
    "to_display",
]
