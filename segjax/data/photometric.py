"""Augmentations that change grey values and leave every pixel where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segjax.data.augment_arguments import interval, number
from segjax.types import Example

LARGEST_GREY = 1e6
"""Of a shift and of noise, in units of the normalised image."""

FACTORS = (1e-3, 1e3)
"""Of contrast."""


def brightness_contrast(
    example: Example,
    rng: np.random.Generator,
    *,
    brightness: Sequence[float] = (-0.1, 0.1),
    contrast: Sequence[float] = (0.8, 1.25),
) -> Example:
    """Stretches grey values about their mean and shifts them; label and weight stay.

    `image' = mean + contrast * (image - mean) + brightness`, the mean being that of each
    channel. Nothing is clipped.

    Args:
      example: the example.
      rng: source of randomness.
      brightness: range of the shift, in units of the normalised image.
      contrast: range of the factor, drawn uniformly in its logarithm.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    low, high = interval("brightness", brightness, -LARGEST_GREY, LARGEST_GREY)
    weak, strong = np.log(interval("contrast", contrast, *FACTORS))
    factor = np.float32(math.exp(rng.uniform(weak, strong)))
    image = example["image"]
    mean = image.mean(axis=(0, 1), dtype=np.float32)
    shift = mean * (1 - factor) + np.float32(rng.uniform(low, high))
    return {**example, "image": image * factor + shift}


def gaussian_noise(
    example: Example, rng: np.random.Generator, *, std: float = 0.05
) -> Example:
    """Adds independent normal noise to every value of the image.

    Args:
      example: the example.
      rng: source of randomness.
      std: largest standard deviation, in units of the normalised image; the one used is
        drawn uniformly from `[0, std]`.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when `std` is out of its range.
    """
    std = number("std", std, 0, LARGEST_GREY)
    image = example["image"]
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return {**example, "image": image + np.float32(rng.uniform(0, std)) * noise}
