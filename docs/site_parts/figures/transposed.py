"""A transposed convolution, stamp by stamp."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.viz import Grid, origin_colors, plot_grids

from . import rounded

TITLE = "A transposed convolution, stamp by stamp"
CAPTION = (
    "Each of the four numbers multiplies the whole kernel, and the results are added where they lie over "
    "one another. Step through them, set stamps further apart, crop the border, and move over the output: "
    "the sum behind each number is written out. Every state was computed by `segjax.ops.conv_transpose`."
)
ALTERNATIVE = "A map of 2 x 2 numbers, a kernel of 3 x 3, and the four states of their transposed convolution with stride 2."

INPUT = np.array([[1, 2], [3, 4]], np.float32)
KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
STRIDES, PADDINGS, ADDED = (1, 2, 3), (0, 1), (0, 1, 2)


def stamps(stride: int, padding: int, added: int) -> np.ndarray:
    """What each number of the input adds to the output.

    Args:
      stride: output pixels from one input pixel to the next.
      padding: rows and columns cropped from each side.
      added: output padding.

    Returns:
      `[4, H, W]`, in row-major order of the input.
    """
    alone = np.zeros((4, 4), np.float32)
    np.fill_diagonal(alone, INPUT.ravel())
    maps = jnp.asarray(alone.reshape(4, 2, 2, 1))
    kernel = jnp.asarray(KERNEL)[:, :, None, None]
    options = {"stride": stride, "padding": padding, "output_padding": added}
    return np.asarray(ops.conv_transpose(maps, kernel, **options))[..., 0]


def data() -> dict[str, Any]:
    """The stamps of all settings."""
    settings = {
        "-".join(map(str, setting)): rounded(stamps(*setting), 0)
        for setting in itertools.product(STRIDES, PADDINGS, ADDED)
        if setting[2] < setting[0]
    }
    return {
        "input": INPUT.tolist(),
        "kernel": KERNEL.tolist(),
        "settings": settings,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Input, kernel, and the states at stride 2."""
    steps = np.cumsum(data["settings"]["2-0-0"], 0)
    colors = [
        origin_colors(np.asarray(data["settings"]["2-0-0"])[: i + 1]) for i in range(4)
    ]
    grids = [
        Grid(step, f"after {i + 1}", color)
        for i, (step, color) in enumerate(zip(steps, colors, strict=True))
    ]
    first: list[Grid | str] = [
        Grid(INPUT, "input"),
        "*",
        Grid(KERNEL, "kernel"),
        "=",
        grids[0],
    ]
    return plot_grids([first, grids[1:]], dpi=80)
