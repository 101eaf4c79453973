"""The U-Net's weight of the gaps between cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from segjax.data.semantic.weight_map import border_weight
from segjax.viz import plot_maps

from . import packed, rounded, scenes

TITLE = "The weight of the gaps between cells"
CAPTION = (
    "The U-Net's loss counts a background pixel `1 + w0 exp(-(d1 + d2)² / (2 sigma²))` times, with "
    "the distances to the two nearest cells. Move both parameters, and the cursor over the map. The "
    "distances are read back from `border_weight` of segjax."
)
ALTERNATIVE = "Cells, and the weights of the pixels between them for sigma 2, 5 and 10."

HEIGHT, WIDTH = 64, 96
WIDE = 30.0
"""A sigma at which the weight of every pixel is far from 0, so that distances can be read from it."""


def cells() -> np.ndarray:
    """The cells, `[64, 96]`."""
    return scenes.nuclei(HEIGHT, WIDTH, count=70, seed=3)


def distances(cells: np.ndarray) -> np.ndarray:
    """Reads d1 + d2 of each pixel out of the weight that segjax gives it.

    Args:
      cells: `[H, W]`.

    Returns:
      float64 `[H, W]`, pixels.
    """
    weight = border_weight(cells, w0=1e4, sigma=WIDE, everywhere=True)
    return WIDE * np.sqrt(-2 * np.log((weight.astype(np.float64) - 1) / 1e4))


def data() -> dict[str, Any]:
    """The cells and the distances."""
    found = cells()
    sums = np.where(found > 0, 0, distances(found))
    return {
        "height": HEIGHT,
        "width": WIDTH,
        "cells": packed(found.astype(np.uint8)),
        "distances": rounded(sums.ravel(), 2),
    }


def picture(_: dict[str, Any]) -> Image.Image:
    """Cells and three maps of weights."""
    found = cells()
    panels = [("cells", (found > 0).astype(np.float32))]
    panels += [
        (f"weight, sigma {sigma}", border_weight(found, sigma=sigma))
        for sigma in (2, 5, 10)
    ]
    return plot_maps(panels, columns=2, side=2.6, dpi=80)
