"""Random changes of training examples: image, label and weight move together.

Every augmentation is a function `(example, rng, **arguments) -> example`. It never writes
into its input, keeps dtypes, and draws nothing but from `rng`, so an example is a function
of its record and its generator alone. A configuration names them as data:

    augment=(("flip", {}), ("quarter_turn", {}), ("elastic_deformation", {"std": 10.0}))

Images are sampled bilinearly. Every other array of an example (label, weight) is taken
from the nearest pixel, so no class is invented, an ignored pixel stays ignored, and a
weight stays with the label it was computed for. Beyond its borders an example is
continued by mirroring, the pixel at the edge not repeated.

Sources: Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, section 3.1 (shift,
rotation, grey values, elastic deformation).
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.types import Example, UserError

Augmentations = Sequence[tuple[str, Mapping[str, Any]]]
"""What a configuration says: `(name, arguments)` in the order of application."""


def flip(example: Example, rng: np.random.Generator) -> Example:
    """Mirrors rows and columns, each with probability 1/2."""
    rows, columns = (
        slice(None, None, -1 if turn else None) for turn in rng.random(2) < 0.5
    )
    return {key: np.ascontiguousarray(x[rows, columns]) for key, x in example.items()}


def quarter_turn(example: Example, rng: np.random.Generator) -> Example:
    """Turns by 0, 90, 180 or 270 degrees; by 0 or 180 where height and width differ."""
    height, width = example["image"].shape[:2]
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    return {key: np.ascontiguousarray(np.rot90(x, turns)) for key, x in example.items()}


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

    Raises:
      ValueError: when a range is not `(low, high)`, or contrast is not positive.
    """
    low, high = _range("brightness", brightness)
    weak, strong = _range("contrast", contrast)
    if weak <= 0:
        raise ValueError(f"contrast must be positive, got {tuple(contrast)}")
    factor = np.float32(math.exp(rng.uniform(math.log(weak), math.log(strong))))
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

    Raises:
      ValueError: when `std` is negative.
    """
    if std < 0:
        raise ValueError(f"std must not be negative, got {std}")
    image = example["image"]
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return {**example, "image": image + np.float32(rng.uniform(0, std)) * noise}


AUGMENTATIONS: dict[str, Callable[..., Example]] = {
    "flip": flip,
    "quarter_turn": quarter_turn,
    "brightness_contrast": brightness_contrast,
    "gaussian_noise": gaussian_noise,
}


def check(augment: Augmentations) -> None:
    """Raises UserError for an augmentation or an argument that does not exist."""
    for name, arguments in augment:
        if name not in AUGMENTATIONS:
            raise UserError(
                f"There is no augmentation '{name}'. {_suggestion(name, AUGMENTATIONS)}"
            )
        allowed = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
        for argument in arguments:
            if argument not in allowed:
                raise UserError(
                    f"The augmentation '{name}' has no argument '{argument}'."
                    f" {_suggestion(argument, allowed)}"
                )


def apply(
    augment: Augmentations, example: Example, rng: np.random.Generator
) -> Example:
    """Applies augmentations in their order.

    Raises:
      UserError: for an augmentation or an argument that does not exist.
    """
    check(augment)
    for name, arguments in augment:
        example = AUGMENTATIONS[name](example, rng, **arguments)
    return example


def _range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{name} must be (low, high), got {tuple(values)}")
    return float(values[0]), float(values[1])


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"It takes {', '.join(known)}." if known else "It takes none."
