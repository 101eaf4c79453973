"""Augmentations that change grey values and colours and leave every pixel in its place.

Sources: Zhao et al. 2017, arXiv 1612.01105, section 5.1 (random Gaussian blur).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.data import per_channel
from segjax.data.augment.arguments import interval, number
from segjax.types import Example

LARGEST_GREY = 1e6
"""Of a shift and of noise, in units of the normalised image."""

FACTORS = (1e-3, 1e3)
"""Of contrast, brightness and saturation."""

LARGEST_BLUR = 100.0
"""Standard deviation, pixels."""

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grey of a colour, as torchvision has them."""


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
      contrast: range of the factor, sampled uniformly in its logarithm.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    low, high = interval("brightness", brightness, -LARGEST_GREY, LARGEST_GREY)
    weak, strong = np.log(interval("contrast", contrast, *FACTORS))
    factor = np.float32(math.exp(rng.uniform(weak, strong)))
    image = example["image"]
    mean = per_channel.reduce(image, np.mean)
    changed = image * factor
    shift = mean * (1 - factor) + np.float32(rng.uniform(low, high))
    per_channel.change(changed, np.add, shift)
    return {**example, "image": changed}


def gamma(
    example: Example,
    rng: np.random.Generator,
    *,
    gamma: Sequence[float] = (0.8, 1.25),
) -> Example:
    """Raises grey values to a power, between the extremes of each channel.

    `image' = min + (max - min) * ((image - min) / (max - min)) ** gamma`: the extremes
    stay, and what lies between them gets lighter (below 1) or darker (above).

    Args:
      example: the example.
      rng: source of randomness.
      gamma: range of the power, sampled uniformly in its logarithm.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when the range is not `(low, high)`, or a number is out of its range.
    """
    low, high = np.log(interval("gamma", gamma, *FACTORS))
    power = np.float32(math.exp(rng.uniform(low, high)))
    image = example["image"]
    least = per_channel.reduce(image, np.min)
    spread = per_channel.reduce(image, np.max) - least
    spread = np.where(spread > 0, spread, np.float32(1))
    changed = image.copy()
    per_channel.change(changed, np.subtract, least)
    per_channel.change(changed, np.divide, spread)
    with np.errstate(divide="ignore"):  # the power by its logarithm: it is vectorised
        np.log(changed, out=changed)
    changed *= power
    np.exp(changed, out=changed)
    per_channel.change(changed, np.multiply, spread)
    per_channel.change(changed, np.add, least)
    return {**example, "image": changed}


def illumination(
    example: Example,
    rng: np.random.Generator,
    *,
    strength: float = 1.0,
    probability: float = 0.3,
) -> Example:
    """Adds a plane to the image, as uneven light does; label and weight stay.

    The plane rises in a random direction, and is 0 at its lowest corner.

    Args:
      example: the example.
      rng: source of randomness.
      strength: largest rise from corner to corner, in units of the normalised image; the
        one used is sampled uniformly from `[0, strength]`.
      probability: how often it is added at all.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a number is out of its range.
    """
    strength = number("strength", strength, 0, LARGEST_GREY)
    if rng.random() >= number("probability", probability, 0, 1):
        return example
    image = example["image"]
    plane = _slope(image.shape[:2], rng) * np.float32(rng.uniform(0, strength))
    return {**example, "image": image + plane[..., None]}


def empty_page(
    example: Example,
    rng: np.random.Generator,
    *,
    probability: float = 0.15,
    level: Sequence[float] = (0.0, 1.0),
    strength: float = 1.0,
    std: float = 0.2,
) -> Example:
    """Replaces an example by a page without objects: a plane and noise, all of class 0.

    Training images hold objects, so nothing else shows a network what an empty, dark or
    unevenly lit page looks like. It is for labels whose class 0 is the background.

    Args:
      example: the example.
      rng: source of randomness.
      probability: how often it is replaced.
      level: range of the plane's lowest value, sampled uniformly, in units of the
        normalised image. A crop shows a part of a page, so it may be bright throughout.
      strength: largest rise of the plane from corner to corner, in units of the normalised
        image; the one used is sampled uniformly from `[0, strength]`.
      std: largest standard deviation of the noise, likewise. Between the 1st and the
        99.8th percentile normal noise has a standard deviation of 0.19.

    Returns:
      An example of the same size; what had no weight has none.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    low, high = interval("level", level, -LARGEST_GREY, LARGEST_GREY)
    strength = number("strength", strength, 0, LARGEST_GREY)
    std = number("std", std, 0, LARGEST_GREY)
    if rng.random() >= number("probability", probability, 0, 1):
        return example
    shape = example["image"].shape
    page = _slope(shape[:2], rng)[..., None] * np.float32(rng.uniform(0, strength))
    noise = rng.standard_normal(shape, dtype=np.float32)
    page = page + np.float32(rng.uniform(0, std)) * noise
    empty = {"image": page + np.float32(rng.uniform(low, high))}
    if "label" in example:
        empty["label"] = np.zeros_like(example["label"])
    if "weight" in example:
        empty["weight"] = (example["weight"] > 0).astype(np.float32)
    return {**example, **empty}


def _slope(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A plane `[H, W]` that rises from 0 to 1 in a random direction."""
    turn = rng.uniform(0, 2 * math.pi)
    down, right = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    plane = (
        np.float32(math.sin(turn)) * down[:, None] + np.float32(math.cos(turn)) * right
    )
    least = plane.min()
    return (plane - least) / max(plane.max() - least, np.float32(1e-6))


def gaussian_noise(
    example: Example, rng: np.random.Generator, *, std: float = 0.05
) -> Example:
    """Adds independent normal noise to every value of the image.

    Args:
      example: the example.
      rng: source of randomness.
      std: largest standard deviation, in units of the normalised image; the one used is
        sampled uniformly from `[0, std]`.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when `std` is out of its range.
    """
    std = number("std", std, 0, LARGEST_GREY)
    image = example["image"]
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return {**example, "image": image + np.float32(rng.uniform(0, std)) * noise}


def gaussian_blur(
    example: Example,
    rng: np.random.Generator,
    *,
    std: Sequence[float] = (0.1, 1.5),
    probability: float = 0.5,
) -> Example:
    """Blurs the image; label and weight stay sharp.

    Args:
      example: the example.
      rng: source of randomness.
      std: range of the standard deviation, sampled uniformly, pixels.
      probability: how often it is blurred at all.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    low, high = interval("std", std, 0, LARGEST_BLUR)
    if rng.random() >= number("probability", probability, 0, 1):
        return example
    width = rng.uniform(low, high)
    image = example["image"]
    for axis in (0, 1):
        image = ndimage.gaussian_filter1d(
            image, width, axis=axis, mode="mirror", truncate=3.0
        )
    return {**example, "image": image}


def color_jitter(
    example: Example,
    rng: np.random.Generator,
    *,
    brightness: Sequence[float] = (0.7, 1.4),
    contrast: Sequence[float] = (0.7, 1.4),
    saturation: Sequence[float] = (0.7, 1.4),
    hue: Sequence[float] = (-0.05, 0.05),
) -> Example:
    """Changes brightness, contrast, saturation and hue, in this order, as a camera would.

    With a factor f, brightness is `f * x`, contrast `f * x + (1 - f) * m` with the mean
    grey m of the image, saturation `f * x + (1 - f) * g` with the grey g of the pixel, each
    clipped to [0, 1]; hue turns the circle of colours (torchvision's definitions; its
    order is random).

    Args:
      example: the example; its image is RGB in [0, 1]. In a pipeline this augmentation
        comes before the normalisation, wherever it is listed.
      rng: source of randomness.
      brightness: range of the factor, sampled uniformly in its logarithm.
      contrast: likewise.
      saturation: likewise.
      hue: range of the turn, sampled uniformly, in full turns.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a range is not `(low, high)`, a number is out of its range, or the
        image has no three channels.
    """
    image = example["image"]
    if image.shape[-1] != 3:
        raise ValueError(f"the image must be RGB, it has {image.shape[-1]} channels")
    ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    factors = {
        name: np.float32(math.exp(rng.uniform(*np.log(interval(name, x, *FACTORS)))))
        for name, x in ranges.items()
    }
    turn = rng.uniform(*interval("hue", hue, -0.5, 0.5))
    image = _toward(image, np.float32(0), factors["brightness"])
    image = _toward(image, _grey(image).mean(), factors["contrast"])
    image = _toward(image, _grey(image)[..., None], factors["saturation"])
    return {**example, "image": turn_hue(image, turn) if turn else image}


def turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turns the hue of every pixel; its largest and smallest channel values stay.

    Args:
      image: RGB `[H, W, 3]` float32.
      turn: in full turns.

    Returns:
      The same, turned.

    Example:
      >>> turn_hue(np.array([[[1, 0, 0.5]]], np.float32), 1 / 3).round(2).tolist()
      [[[0.5, 1.0, 0.0]]]
    """
    red, green, blue = np.moveaxis(image, -1, 0)
    top = np.maximum(np.maximum(red, green), blue)
    chroma = top - np.minimum(np.minimum(red, green), blue)
    safe = np.where(chroma > 0, chroma, np.float32(1))
    hue = np.where(
        top == red,
        (green - blue) / safe,
        np.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue += np.float32(6 * turn)
    out = np.empty_like(image)
    for channel, offset in enumerate((5, 3, 1)):
        place = np.mod(hue + np.float32(offset), np.float32(6))
        fall = np.clip(np.minimum(place, 4 - place), 0, 1)
        out[..., channel] = top - chroma * fall
    return out


def _grey(image: np.ndarray) -> np.ndarray:
    red, green, blue = (np.float32(weight) for weight in LUMA)
    return image[..., 0] * red + image[..., 1] * green + image[..., 2] * blue


def _toward(
    image: np.ndarray, other: np.ndarray | np.floating, factor: np.float32
) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * other, 0, 1)
