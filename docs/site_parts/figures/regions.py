"""RoIAlign beside RoIPool, for a box that is dragged."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.viz import Grid, plot_grids

from . import rounded

TITLE = "RoIAlign beside RoIPool"
CAPTION = (
    "A feature map with one cell for 16 pixels, and a box of the image on it. Drag the box, or move it with "
    "the arrow keys: RoIPool rounds it to whole cells, so its numbers stand still and then jump; RoIAlign "
    "takes the mean of four bilinear samples in each bin, and follows. The script computes both, and a "
    "test holds its numbers to `segjax.ops.roi_align` and `roi_pool`."
)
ALTERNATIVE = "The feature map, and what RoIPool and RoIAlign read from a box on it."

CELLS, STRIDE, BINS = 8, 16, 2
BOX = (20.0, 28.0, 84.0, 108.0)


def features() -> np.ndarray:
    """The feature map, whole numbers `[8, 8]`."""
    y, x = np.mgrid[:CELLS, :CELLS]
    return np.rint(
        9 * np.exp(-((y - 2.5) ** 2 + (x - 4.6) ** 2) / 6) + x / 2 - y / 4 + 2
    )


def both(box: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Reads a box in both ways.

    Args:
      box: y0, x0, y1, x1 in pixels of the image.

    Returns:
      "pool" and "align", each `[2, 2]`.
    """
    maps = jnp.asarray(features(), jnp.float32)[None, ..., None]
    boxes = jnp.asarray(box, jnp.float32)[None, None]
    options: dict[str, Any] = {"size": BINS, "scale": 1 / STRIDE}
    found = {
        "pool": ops.roi_pool(maps, boxes, **options),
        "align": ops.roi_align(maps, boxes, **options),
    }
    return {name: np.asarray(x)[0, 0, :, :, 0] for name, x in found.items()}


def data() -> dict[str, Any]:
    """The map, the first box, and what segjax reads there."""
    first = {name: rounded(x) for name, x in both(BOX).items()}
    return {
        "cells": CELLS,
        "stride": STRIDE,
        "bins": BINS,
        "box": BOX,
        "features": features().tolist(),
        "first": first,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """The map and the two answers."""
    grids = [Grid(np.asarray(data["features"]), "features, one cell for 16 pixels")]
    grids += [
        Grid(np.asarray(data["first"][name]), title)
        for name, title in (("pool", "RoIPool"), ("align", "RoIAlign"))
    ]
    return plot_grids([grids], dpi=80)
