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

from segjax.data import warp
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

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a range is not `(low, high)`, or contrast is not positive.
    """
    low, high = _range("brightness", brightness)
    weak, strong = np.log(_positive_range("contrast", contrast))
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
      ValueError: when `std` is negative.
    """
    if std < 0:
        raise ValueError(f"std must not be negative, got {std}")
    image = example["image"]
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return {**example, "image": image + np.float32(rng.uniform(0, std)) * noise}


def elastic_deformation(
    example: Example,
    rng: np.random.Generator,
    *,
    std: float = 10.0,
    grid: int = 3,
    margin: int = 0,
) -> Example:
    """Bends an example by smooth random displacements.

    Displacement vectors are drawn on a coarse grid that spans the example from corner to
    corner, and interpolated to every pixel by cubic splines. The paper's figures are a
    3 x 3 grid and a standard deviation of 10 pixels.

    Args:
      example: the example.
      rng: source of randomness.
      std: standard deviation of both coordinates of a node's displacement, pixels.
      grid: nodes along each side, at least 2.
      margin: pixels at every side of the example that are read but not returned.

    Returns:
      The example, smaller by `2 * margin` on both axes.

    Raises:
      ValueError: when `std` is negative or `grid` below 2.
    """
    if std < 0 or grid < 2:
        raise ValueError(f"std must be >= 0 and grid >= 2, got {std} and {grid}")
    size = _inner_size(example, margin)
    nodes = (std * rng.standard_normal((2, grid, grid))).astype(np.float32)
    shift = warp.displacement(nodes, size)
    rows, columns = (np.arange(n, dtype=np.float32) + margin for n in size)
    return warp.sample(example, shift[0] + rows[:, None], shift[1] + columns)


def rotate_and_scale(
    example: Example,
    rng: np.random.Generator,
    *,
    angle: Sequence[float] = (-180.0, 180.0),
    scale: Sequence[float] = (0.9, 1.1),
    margin: int = 0,
) -> Example:
    """Turns an example about its centre by any angle and magnifies it.

    Args:
      example: the example.
      rng: source of randomness.
      angle: range of the angle, drawn uniformly, degrees; positive is anticlockwise.
      scale: range of the magnification, drawn uniformly in its logarithm.
      margin: pixels at every side of the example that are read but not returned.

    Returns:
      The example, smaller by `2 * margin` on both axes.

    Raises:
      ValueError: when a range is not `(low, high)`, or scale is not positive.
    """
    theta = math.radians(rng.uniform(*_range("angle", angle)))
    zoom = math.exp(rng.uniform(*np.log(_positive_range("scale", scale))))
    height, width = _inner_size(example, margin)
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None] / zoom
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / zoom
    cosine, sine = math.cos(theta), math.sin(theta)
    y = cosine * rows + sine * columns + ((height - 1) / 2 + margin)
    x = cosine * columns - sine * rows + ((width - 1) / 2 + margin)
    return warp.sample(example, y.astype(np.float32), x.astype(np.float32))


AUGMENTATIONS: dict[str, Callable[..., Example]] = {
    "flip": flip,
    "quarter_turn": quarter_turn,
    "brightness_contrast": brightness_contrast,
    "gaussian_noise": gaussian_noise,
    "elastic_deformation": elastic_deformation,
    "rotate_and_scale": rotate_and_scale,
}


def check(augment: Augmentations) -> None:
    """Raises UserError for a name, an argument or a value that cannot work."""
    example: Example = {"image": np.zeros((4, 4, 1), np.float32)}
    _check_names(augment)
    for name, arguments in augment:
        try:
            tried = dict(arguments)
            if "margin" in tried:  # The example here is smaller than any margin.
                tried["margin"] = min(tried["margin"], 0)
            AUGMENTATIONS[name](example, np.random.default_rng(0), **tried)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"The augmentation '{name}' cannot run: {error}."
            ) from error


def apply(
    augment: Augmentations, example: Example, rng: np.random.Generator
) -> Example:
    """Applies augmentations in their order.

    Raises:
      UserError: for an augmentation or an argument that does not exist.
    """
    _check_names(augment)
    for name, arguments in augment:
        example = AUGMENTATIONS[name](example, rng, **arguments)
    return example


def with_margins(
    augment: Augmentations, size: tuple[int, int]
) -> tuple[Augmentations, int]:
    """Gives every warp the surroundings it reads, so that less has to be mirrored.

    A margin that the configuration states stays. Otherwise elastic deformation gets three
    standard deviations, and rotation as much as its largest angle and smallest scale need.

    Args:
      augment: the augmentations.
      size: `(height, width)` that shall come out at the end.

    Returns:
      The augmentations with margins, and by how many pixels on each side the example that
      goes in must exceed `size`.
    """
    _check_names(augment)
    planned, total = [], 0
    for name, arguments in reversed(augment):
        if name in _MARGINS:
            bound = inspect.signature(AUGMENTATIONS[name]).bind_partial(**arguments)
            bound.apply_defaults()
            grown = (size[0] + 2 * total, size[1] + 2 * total)
            margin = arguments.get("margin", _MARGINS[name](grown, bound.arguments))
            arguments, total = {**arguments, "margin": margin}, total + margin
        planned.append((name, arguments))
    return tuple(reversed(planned)), total


def _elastic_margin(size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    return math.ceil(3 * arguments["std"])


def _rotation_margin(size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    """Largest overhang of the turned rectangle over the upright one."""
    largest = math.radians(max(abs(a) for a in arguments["angle"]))
    overhang = 0.0
    for along, across in (size, size[::-1]):
        theta = min(largest, math.atan2(across, along))
        turned = along * math.cos(theta) + across * math.sin(theta)
        overhang = max(overhang, turned / min(arguments["scale"]) - along)
    return math.ceil(overhang / 2)


_MARGINS = {
    "elastic_deformation": _elastic_margin,
    "rotate_and_scale": _rotation_margin,
}


def _inner_size(example: Example, margin: int) -> tuple[int, int]:
    height, width = (n - 2 * margin for n in example["image"].shape[:2])
    if margin < 0 or height < 1 or width < 1:
        raise ValueError(
            f"margin must lie inside the image {example['image'].shape}, got {margin}"
        )
    return height, width


def _check_names(augment: Augmentations) -> None:
    for entry in augment:
        pair = isinstance(entry, Sequence) and len(entry) == 2
        if not pair or not isinstance(entry[1], Mapping):
            raise UserError(
                "An augmentation is written as (name, arguments), for example"
                f" ('flip', {{}}); found {entry!r}."
            )
        name, arguments = entry
        if name not in AUGMENTATIONS:
            suggestion = _suggestion(name, AUGMENTATIONS)
            raise UserError(f"There is no augmentation '{name}'. {suggestion}")
        allowed = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
        for argument in arguments:
            if argument not in allowed:
                raise UserError(
                    f"The augmentation '{name}' has no argument '{argument}'."
                    f" {_suggestion(argument, allowed)}"
                )


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    close = close or [name for name in known if word in name]
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"It is one of {', '.join(known)}." if known else "It takes none."


def _range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{name} must be (low, high), got {tuple(values)}")
    return float(values[0]), float(values[1])


def _positive_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    low, high = _range(name, values)
    if low <= 0:
        raise ValueError(f"{name} must be positive, got {tuple(values)}")
    return low, high
