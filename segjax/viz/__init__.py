"""Pictures. Everything here works on numpy arrays on the host."""

from segjax.viz.fields import Field, draw_fields, draw_trees
from segjax.viz.operators import Grid, draw_grids, origin_colors
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
from segjax.viz.rendering import draw_maps

__all__ = [
    "IGNORE_COLOR",
    "Field",
    "Grid",
    "colorize",
    "comparison",
    "draw_fields",
    "draw_grids",
    "draw_maps",
    "draw_trees",
    "error_map",
    "origin_colors",
    "overlay",
    "palette",
    "plot_confusion",
    "plot_curves",
    "to_display",
]
