"""Which samples a convolution reads: kernel, stride, dilation and padding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from PIL import Image

from segjax.geometry import Layer, input_window, output_size
from segjax.viz import plot_trees

TITLE = "The taps of a convolution"
CAPTION = (
    "A row of samples below, what a convolution makes of it above. Move the kernel's size, its stride, "
    "its dilation and the padding, and pick an output: lines lead to the samples that it reads. Sizes and "
    "windows are those of `segjax.geometry`."
)
ALTERNATIVE = (
    "Trees of taps of three stacks of convolutions, with dilations 1 1 1, 1 2 4 and 2 2 2; the last "
    "leaves out every other sample."
)

SAMPLES = 16
KERNELS, STRIDES, DILATIONS, PADDINGS = range(1, 6), range(1, 5), range(1, 5), range(5)


def data() -> dict[str, Any]:
    """Sizes and first taps of all settings."""
    found = {}
    for setting in itertools.product(KERNELS, STRIDES, DILATIONS, PADDINGS):
        kernel, stride, dilation, padding = setting
        layer = Layer("conv", kernel, stride, padding, dilation)
        size = (
            output_size([layer], SAMPLES)
            if layer.extent <= SAMPLES + 2 * padding
            else 0
        )
        windows = [input_window([layer], i, i + 1) for i in range(size)]
        unread = set(range(SAMPLES)) - {
            sample for first, stop in windows for sample in range(first, stop, dilation)
        }
        found["-".join(map(str, setting))] = {
            "extent": layer.extent,
            "first": [first for first, _ in windows],
            "unread": len(unread),
        }
    return {"samples": SAMPLES, "settings": found}


def picture(_: dict[str, Any]) -> Image.Image:
    """Three stacks, as trees."""
    stacks = [("dilation 1, 1, 1", (1, 1, 1)), ("1, 2, 4", (1, 2, 4))]
    return plot_trees([*stacks, ("2, 2, 2", (2, 2, 2))], columns=3, dpi=90)


def taps(setting: tuple[int, int, int, int], output: int) -> np.ndarray:
    """The samples that an output reads, those of the padding as well.

    Args:
      setting: kernel, stride, dilation, padding.
      output: its number.

    Returns:
      Positions, below 0 or above the last where they are padding.
    """
    kernel, stride, dilation, padding = setting
    first, stop = input_window(
        [Layer("conv", kernel, stride, padding, dilation)], output, output + 1
    )
    return np.arange(first, stop, dilation)
