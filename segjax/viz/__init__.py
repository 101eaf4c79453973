"""Pictures. Everything here works on numpy arrays on the host."""

from segjax.viz.fields import Field, plot_fields, plot_trees
from segjax.viz.operators import Grid, origin_colors, plot_grids
from segjax.viz.pictures import (
    IGNORE_COLOR,
    colorize,
    comparison,
    error_map,
    overlay,
    overlay_instances,
    palette,
    to_display,
)
from segjax.viz.plots import plot_confusion, plot_curves
from segjax.viz.rendering import plot_maps

__all__ = [
    "IGNORE_COLOR",
    "Field",
    "Grid",
    "colorize",
    "comparison",
    "error_map",
    "origin_colors",
    "overlay",
    "overlay_instances",
    "palette",
    "plot_confusion",
    "plot_curves",
    "plot_fields",
    "plot_grids",
    "plot_maps",
    "plot_trees",
    "to_display",
]
