"""Coloured scenes of four kinds of objects before an uneven background.

The kinds differ in outline and texture: discs are plain, boxes striped,
triangles chequered, rings speckled. Their colours overlap, every scene has its own light,
and everything is noisy, so neither a colour nor a place alone is enough. The same number
renders the same bits on every machine (see `em_noise`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segjax.data.datasets.synthetic.em_noise import (
    Plane,
    SmoothNoise,
    generator_of,
    uniform,
)
from segjax.types import IGNORE_LABEL

KINDS = ("background", "disc", "box", "triangle", "ring")
"""Names of the classes; the position is the class id."""

_TINTS = (
    (0.42, 0.46, 0.40),
    (0.66, 0.40, 0.36),
    (0.38, 0.46, 0.68),
    (0.64, 0.60, 0.34),
    (0.46, 0.62, 0.48),
)
_TINT_SPREAD = 0.14
_NOISE = 0.05
_BORDER = 0.75
"""Half width of the band between two classes that nobody could label, pixels."""


class Scene(NamedTuple):
    """A rendered picture: `image` `[H, W, 3]` uint8 and `label` `[H, W]` uint8."""

    image: np.ndarray
    label: np.ndarray


def render_scene(seeds: tuple[int, ...], size: int) -> Scene:
    """Renders a square scene.

    Args:
      seeds: numbers >= 0 that name it.
      size: its side, pixels.

    Returns:
      The scene. Pixels on the outline of an object are `IGNORE_LABEL`.
    """
    generator = generator_of(*seeds)
    image = np.empty((size, size, 3), np.float32)
    light = _field(generator, size, size / 2)
    grain = _field(generator, size, 3.0)
    image[...] = _tint(generator, 0)
    image += 0.08 * light[..., None] + 0.06 * grain[..., None]
    label = np.zeros((size, size), np.uint8)
    for kind in _kinds(generator):
        _plot_instance(generator, kind, image, label)
    image *= uniform(generator, 0.75, 1.2, 3)
    image += _NOISE * generator.standard_normal(image.shape, dtype=np.float32)
    levels = np.clip(np.floor(image * 255 + np.float32(0.5)), 0, 255)
    return Scene(levels.astype(np.uint8), label)


def _kinds(generator: np.random.Generator) -> list[int]:
    """Between four and seven objects, every kind at least once, in any order."""
    more = generator.integers(1, len(KINDS), int(generator.integers(4)))
    kinds = np.concatenate([np.arange(1, len(KINDS)), more])
    return generator.permutation(kinds).tolist()


def _plot_instance(
    generator: np.random.Generator, kind: int, image: np.ndarray, label: np.ndarray
) -> None:
    """Renders an object over what is there already."""
    size = label.shape[0]
    radius = float(uniform(generator, 0.1, 0.19, 1)[0]) * size
    center = uniform(generator, 0.08, 0.92, 2) * np.float32(size)
    x, y = _turned(generator, size, center)
    distance = _distance(KINDS[kind], x, y, radius)
    inside, border = distance < -_BORDER, np.abs(distance) <= _BORDER
    color = _tint(generator, kind) + 0.12 * _texture(kind, x, y, generator)[..., None]
    coverage = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
    image += coverage * (color - image)
    label[inside] = kind
    label[border] = IGNORE_LABEL


def _turned(
    generator: np.random.Generator, size: int, center: np.ndarray
) -> tuple[Plane, Plane]:
    """Coordinates of every pixel about a centre, turned by any angle, pixels."""
    direction = generator.standard_normal(2)
    cosine, sine = (direction / np.sqrt((direction * direction).sum())).astype("f4")
    rows = np.arange(size, dtype=np.float32)[:, None] - center[0]
    columns = np.arange(size, dtype=np.float32)[None] - center[1]
    return cosine * columns + sine * rows, cosine * rows - sine * columns


def _distance(name: str, x: Plane, y: Plane, radius: float) -> Plane:
    """Distance to the outline in pixels, negative inside; nearly so at corners."""
    if name == "disc":
        return np.sqrt(x * x + y * y) - np.float32(radius)
    if name == "ring":
        width = max(0.25 * radius, 2.0)
        return np.abs(np.sqrt(x * x + y * y) - np.float32(radius)) - np.float32(width)
    if name == "box":
        return np.maximum(np.abs(x) - 0.95 * radius, np.abs(y) - 0.75 * radius)
    # A triangle with equal sides: three half planes at 120 degrees.
    slope = np.float32(np.sqrt(3) / 2) * np.abs(x)
    return np.maximum(slope + y / 2, -y) - np.float32(0.65 * radius)


def _texture(kind: int, x: Plane, y: Plane, generator: np.random.Generator) -> Plane:
    """A pattern of values in [-1, 1] that belongs to the kind."""
    period = float(uniform(generator, 4.0, 7.0, 1)[0])
    across, along = (np.floor(2 * c / period).astype(np.int32) % 2 for c in (x, y))
    if KINDS[kind] == "box":
        pattern = across
    elif KINDS[kind] == "triangle":
        pattern = across ^ along
    elif KINDS[kind] == "ring":
        pattern = (generator.random(x.shape, dtype=np.float32) < 0.5).astype(np.int32)
    else:
        return np.zeros_like(x)
    return (2 * pattern - 1).astype(np.float32)


def _tint(generator: np.random.Generator, kind: int) -> np.ndarray:
    """A colour near that of the kind, float32 `[3]`."""
    spread = uniform(generator, -_TINT_SPREAD, _TINT_SPREAD, 3)
    return np.asarray(_TINTS[kind], np.float32) + spread


def _field(generator: np.random.Generator, size: int, spacing: float) -> Plane:
    noise = SmoothNoise(generator, (1, size, size), spacing=spacing, depth=1)
    return noise.section(0)
