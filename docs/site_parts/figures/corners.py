"""Bilinear interpolation: where the pixels of the output lie on the input."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops

from . import rounded

TITLE = "Corners or edges: two conventions of bilinear interpolation"
CAPTION = (
    "Four values, resized along one axis. With aligned corners the middles of the outermost pixels stay in "
    "place (Caffe, DeepLab, PSPNet); else the outer edges do (torchvision, JAX). Change the size of the "
    "output and the values, and see how far the two come apart. Weights are those of "
    "`segjax.ops.resize_bilinear`."
)
ALTERNATIVE = "Two curves of nine values interpolated from four, one for each convention, with the four values as dots."

VALUES = (10.0, 40.0, 20.0, 30.0)
SIZES = range(1, 17)


def weights(size: int, *, align_corners: bool) -> np.ndarray:
    """What each of the four values gives to each of the output.

    Args:
      size: pixels of the output.
      align_corners: the convention.

    Returns:
      `[4, size]`.
    """
    ones = jnp.eye(4).reshape(4, 1, 4, 1)
    resized = ops.resize_bilinear(ones, size=(1, size), align_corners=align_corners)
    return np.asarray(resized)[:, 0, :, 0]


def data() -> dict[str, Any]:
    """The weights for all sizes of the output."""
    return {
        "values": VALUES,
        "corners": {str(n): rounded(weights(n, align_corners=True)) for n in SIZES},
        "edges": {str(n): rounded(weights(n, align_corners=False)) for n in SIZES},
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Both conventions for nine pixels."""
    from matplotlib.figure import Figure

    from segjax.viz.rendering import to_picture

    figure = Figure(figsize=(6, 2.6), layout="constrained")
    ax = figure.subplots()
    step = 4 / 9
    places = {
        "corners": np.linspace(0, 3, 9),
        "edges": (np.arange(9) + 0.5) * step - 0.5,
    }
    ax.plot(range(4), VALUES, "o", color="#222222", label="the four values")
    for name, color in (("corners", "#D55E00"), ("edges", "#0072B2")):
        found = np.asarray(VALUES) @ np.asarray(data[name]["9"])
        ax.plot(places[name], found, ".-", color=color, label=f"{name} stay in place")
    ax.legend()
    ax.set_xlabel("place on the input, pixels")
    return to_picture(figure, 90)
