"""Augmentations that move pixels: image, label and weight together.

Sources: Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, section 3.1 (shift,
rotation, elastic deformation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.augment import warp
from segjax.data.augment.arguments import (
    ANGLES,
    FACTORS,
    integer,
    interval,
    number,
)
from segjax.types import Example

LARGEST_SHIFT = 10_000
"""Of a displacement and of a margin, in pixels."""

LARGEST_GRID = 1_000
"""Nodes along a side."""


def flip(
    example: Example,
    rng: np.random.Generator,
    *,
    vertical: bool = True,
    horizontal: bool = True,
) -> Example:
    """Mirrors an example up-down and left-right, each with probability 1/2.

    Args:
      example: the example.
      rng: source of randomness.
      vertical: whether up and down may be exchanged; False for photographs.
      horizontal: whether left and right may be.

    Returns:
      An example of the same size, of views of its arrays: what comes next copies them.

    Raises:
      ValueError: when one of the two is neither True nor False.
    """
    for name, allowed in (("vertical", vertical), ("horizontal", horizontal)):
        if not isinstance(allowed, bool):
            raise ValueError(f"{name} must be True or False, got {allowed!r}")
    sampled = (rng.random(2) < 0.5) & (vertical, horizontal)
    rows, columns = (slice(None, None, -1 if turn else None) for turn in sampled)
    return {key: x[rows, columns] for key, x in example.items()}


def quarter_turn(example: Example, rng: np.random.Generator) -> Example:
    """Turns by 0, 90, 180 or 270 degrees; by 0 or 180 where height and width differ."""
    height, width = example["image"].shape[:2]
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    return {key: np.ascontiguousarray(np.rot90(x, turns)) for key, x in example.items()}


def elastic_deformation(
    example: Example,
    rng: np.random.Generator,
    *,
    std: float = 10.0,
    grid: int = 3,
    margin: int = 0,
) -> Example:
    """Bends an example by smooth random displacements.

    Displacement vectors are sampled on a coarse grid that spans the example from corner to
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
      ValueError: when a number is out of its range.
    """
    std = number("std", std, 0, LARGEST_SHIFT)
    grid = integer("grid", grid, 2, LARGEST_GRID)
    size = _inner_size(example, margin)
    nodes = (std * rng.standard_normal((2, grid, grid))).astype(np.float32)
    displaced = warp.displacement_of_rows(nodes, size)
    rows, columns = (np.arange(n, dtype=np.float32) + margin for n in size)

    def coordinates(at: slice) -> tuple[np.ndarray, np.ndarray]:
        y, x = displaced(at)
        y += rows[at, None]
        x += columns
        return y, x

    return warp.sample_rows(example, size, coordinates)


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
      angle: range of the angle, sampled uniformly, degrees; positive is anticlockwise.
      scale: range of the magnification, sampled uniformly in its logarithm.
      margin: pixels at every side of the example that are read but not returned.

    Returns:
      The example, smaller by `2 * margin` on both axes.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    theta = math.radians(rng.uniform(*interval("angle", angle, *ANGLES)))
    zoom = math.exp(rng.uniform(*np.log(interval("scale", scale, *FACTORS))))
    height, width = _inner_size(example, margin)
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None] / zoom
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / zoom
    cosine, sine = math.cos(theta), math.sin(theta)
    y = cosine * rows + sine * columns + ((height - 1) / 2 + margin)
    x = cosine * columns - sine * rows + ((width - 1) / 2 + margin)
    return warp.sample(example, y.astype(np.float32), x.astype(np.float32))


def elastic_margin(size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    """Three standard deviations of the displacement, pixels."""
    return math.ceil(3 * arguments["std"])


def rotation_margin(size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    """Largest overhang of the turned rectangle over the upright one, pixels."""
    largest = math.radians(max(abs(a) for a in arguments["angle"]))
    overhang = 0.0
    for along, across in (size, size[::-1]):
        theta = min(largest, math.atan2(across, along))
        turned = along * math.cos(theta) + across * math.sin(theta)
        overhang = max(overhang, turned / min(arguments["scale"]) - along)
    return math.ceil(overhang / 2)


def _inner_size(example: Example, margin: int) -> tuple[int, int]:
    margin = integer("margin", margin, 0, LARGEST_SHIFT)
    height, width = (n - 2 * margin for n in example["image"].shape[:2])
    if height < 1 or width < 1:
        raise ValueError(
            f"margin must lie inside the image {example['image'].shape}, got {margin}"
        )
    return height, width
