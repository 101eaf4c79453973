"""Scenes of overlapping discs, squares and triangles on a textured ground.

Kinds differ in their outline alone: colours and textures are rendered for each object
anew. Later objects hide earlier ones, and masks are what is left to see. The same number
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

SHAPES = ("disc", "square", "triangle")
"""Kinds of objects, by class id from 1."""

RADII = (0.085, 0.2)
"""Of objects, as fractions of the scene's side: squares and triangles have the area of a
disc of this radius."""

LEAST_VISIBLE = 0.4
"""Fraction of every object that stays visible."""

_TRIES = 12
"""Places that are tried for an object before the scene goes without it."""

_NOISE = 0.05
_SQUARE_HALF = 0.8862  # sqrt(pi) / 2: half the side of a square with a disc's area
_TRIANGLE_INNER = 0.7776  # radius of the inscribed circle of such a triangle


class InstanceScene(NamedTuple):
    """A rendered picture of objects.

    Attributes:
      image: `[H, W, 3]` uint8.
      masks: bool `[N, H, W]`, what is visible of each object.
      classes: int32 `[N]`, from 1.
      keypoints: float32 `[N, P, 3]`, `(y, x, visibility)`; None where there are none.
    """

    image: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None = None


class Canvas:
    """A picture, and which object is seen at each of its pixels.

    Attributes:
      color: float32 `[H, W, 3]`, about 0 to 1.
      owner: int `[H, W]`, -1 for the ground.
      areas: pixels of each object, hidden ones too.
    """

    def __init__(self, generator: np.random.Generator, size: int):
        light, grain = (field(generator, size, s) for s in (size / 2, 3.0))
        self.color = np.empty((size, size, 3), np.float32)
        self.color[...] = uniform(generator, 0.3, 0.6, 3)
        self.color += 0.08 * light[..., None] + 0.06 * grain[..., None]
        self.owner = np.full((size, size), -1)
        self.areas: list[int] = []

    def has_room(self, distance: Plane) -> bool:
        """Whether an object leaves enough to be seen of those before, and has pixels."""
        inside = distance < 0
        left = np.bincount(
            (self.owner[~inside] + 1).ravel(), minlength=len(self.areas) + 1
        )
        enough = left[1:] >= LEAST_VISIBLE * np.array(self.areas)
        return bool(inside.sum() >= 12 and enough.all())

    def render(self, distance: Plane, color: np.ndarray) -> None:
        """Renders an object over what is there.

        Args:
          distance: to its outline in pixels, negative inside, `[H, W]`.
          color: `[3]` or `[H, W, 3]`.
        """
        inside = distance < 0
        coverage = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
        self.color += coverage * (color - self.color)
        self.owner[inside] = len(self.areas)
        self.areas.append(int(inside.sum()))

    def finish(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the noisy image uint8 `[H, W, 3]` and the masks bool `[N, H, W]`."""
        image = self.color * uniform(generator, 0.8, 1.15, 3)
        image += _NOISE * generator.standard_normal(image.shape, dtype=np.float32)
        levels = np.clip(np.floor(image * 255 + np.float32(0.5)), 0, 255)
        masks = self.owner == np.arange(len(self.areas))[:, None, None]
        return levels.astype(np.uint8), masks


def render_shapes(
    seeds: tuple[int, ...], size: int, *, num_kinds: int = 3, max_instances: int = 5
) -> InstanceScene:
    """Renders a square scene of one object or more.

    Args:
      seeds: numbers >= 0 that name it.
      size: its side, pixels.
      num_kinds: classes; 3 for one of each kind, 1 to call every kind class 1, 2 for
        discs and squares alone.
      max_instances: largest number of objects.

    Returns:
      The scene, its classes from 1 to `num_kinds`.
    """
    generator = generator_of(*seeds)
    canvas = Canvas(generator, size)
    classes = []
    for _ in range(1 + int(generator.integers(max_instances))):
        kind = int(generator.integers(2 if num_kinds == 2 else 3))
        for _ in range(_TRIES):
            distance, x, y = _placed(generator, kind, size)
            if canvas.has_room(distance):
                canvas.render(distance, _color(generator, x, y))
                classes.append(1 if num_kinds == 1 else kind + 1)
                break
    image, masks = canvas.finish(generator)
    return InstanceScene(image, masks, np.array(classes, np.int32))


def _placed(
    generator: np.random.Generator, kind: int, size: int
) -> tuple[Plane, Plane, Plane]:
    """Distance to an object's outline, and coordinates about its centre."""
    radius = float(uniform(generator, *RADII, 1)[0]) * size
    center = uniform(generator, 0.1, 0.9, 2) * np.float32(size)
    direction = generator.standard_normal(2)
    cosine, sine = (direction / np.sqrt((direction * direction).sum())).astype("f4")
    rows = np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5) - center[0]
    columns = np.arange(size, dtype=np.float32)[None] + np.float32(0.5) - center[1]
    x, y = cosine * columns + sine * rows, cosine * rows - sine * columns
    if SHAPES[kind] == "disc":
        return np.sqrt(x * x + y * y) - np.float32(radius), x, y
    if SHAPES[kind] == "square":
        half = np.float32(_SQUARE_HALF * radius)
        return np.maximum(np.abs(x), np.abs(y)) - half, x, y
    # A triangle with equal sides: three half planes at 120 degrees.
    slope = np.float32(np.sqrt(3) / 2) * np.abs(x)
    inner = np.float32(_TRIANGLE_INNER * radius)
    return np.maximum(slope + y / 2, -y) - inner, x, y


def _color(generator: np.random.Generator, x: Plane, y: Plane) -> np.ndarray:
    """A colour with stripes, chequers or nothing in it, whatever the kind."""
    period = float(uniform(generator, 4.0, 8.0, 1)[0])
    across, along = (np.floor(2 * c / period).astype(np.int32) % 2 for c in (x, y))
    patterns = (np.zeros_like(across), across, across ^ along)
    pattern = patterns[int(generator.integers(3))]
    base = uniform(generator, 0.15, 0.85, 3)
    return base + np.float32(0.1) * (2 * pattern - 1).astype(np.float32)[..., None]


def field(generator: np.random.Generator, size: int, spacing: float) -> Plane:
    """A smooth random field `[size, size]` of standard deviation 1."""
    noise = SmoothNoise(generator, (1, size, size), spacing=spacing, depth=1)
    return noise.section(0)
