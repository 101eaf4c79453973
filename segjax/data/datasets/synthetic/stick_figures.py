"""Stick figures with joints on a textured ground, for keypoints.

Figures stand upright, tilted a little, and face the one who looks: their left is at the
right of the picture, and nothing else distinguishes left from right. Angles are sampled as tangents
of half angles, so no sine is needed (see `em_noise` for why that matters).
"""

from __future__ import annotations

import numpy as np

from segjax.data.datasets.synthetic.em_noise import Plane, generator_of, uniform
from segjax.data.datasets.synthetic.instance_scenes import Canvas, InstanceScene

JOINTS = (
    "head",
    "neck",
    "left_elbow",
    "right_elbow",
    "left_hand",
    "right_hand",
    "hip",
    "left_knee",
    "right_knee",
    "left_foot",
    "right_foot",
)

BONES = (
    (0, 1),
    (1, 2),
    (2, 4),
    (1, 3),
    (3, 5),
    (1, 6),
    (6, 7),
    (7, 9),
    (6, 8),
    (8, 10),
)

SIGMA = 0.08
"""Spread of a joint as a fraction of the square root of a figure's area, for OKS: less than
half the width of a limb."""

HEIGHTS = (0.4, 0.7)
"""Of figures, as fractions of the scene's side."""

_TRIES = 12
_HEAD = 0.11  # radius of the head, limbs and joints below, in heights of the figure
_LIMB = 0.04


def render_figures(
    seeds: tuple[int, ...], size: int, *, num_kinds: int = 1, max_instances: int = 2
) -> InstanceScene:
    """Renders a square scene of one stick figure or more.

    Args:
      seeds: numbers >= 0 that name it.
      size: its side, pixels.
      num_kinds: 1; there is one kind of figure.
      max_instances: largest number of figures.

    Returns:
      The scene with `keypoints` `[N, 11, 3]`: visible (2), hidden by another figure (1),
      or outside of the picture (0, and then 0 for both coordinates).
    """
    del num_kinds
    generator = generator_of(*seeds)
    canvas, joints = Canvas(generator, size), []
    for _ in range(1 + int(generator.integers(max_instances))):
        for _ in range(_TRIES):
            points, height = _pose(generator, size)
            distance = _outline(points, height, size)
            if canvas.has_room(distance):
                canvas.render(distance, uniform(generator, 0.1, 0.9, 3))
                joints.append(points)
                break
    keypoints = np.zeros((len(joints), len(JOINTS), 3), np.float32)
    for number, points in enumerate(joints):
        keypoints[number] = _labelled(points, number, canvas.owner)
    image, masks = canvas.finish(generator)
    return InstanceScene(image, masks, np.ones(len(masks), np.int32), keypoints)


def _labelled(points: np.ndarray, number: int, owner: np.ndarray) -> np.ndarray:
    """Joints `[P, 2]` with their visibility, `[P, 3]`."""
    size = len(owner)
    inside = np.all((points >= 0) & (points < size), axis=1)
    rows, columns = np.clip(points.astype(np.int64), 0, size - 1).T
    seen = owner[rows, columns] == number
    visibility = np.where(inside, 1 + seen, 0)
    return np.column_stack([points * inside[:, None], visibility]).astype(np.float32)


def _pose(generator: np.random.Generator, size: int) -> tuple[np.ndarray, np.float32]:
    """Joints `[P, 2]`, `(y, x)` in pixels, and the height of a figure."""
    height = uniform(generator, *HEIGHTS, 1)[0] * np.float32(size)
    points = np.zeros((len(JOINTS), 2), np.float32)
    down = np.array([1.0, 0.0], np.float32)
    spine = _turned(down, *_angle(generator, -0.12, 0.12))
    points[1] = np.float32(0.2) * spine
    points[6] = np.float32(0.52) * spine
    # A figure's left is at the right of the picture: from "down" against the clock.
    for side, (elbow, hand, knee, foot) in ((1, (2, 4, 7, 9)), (-1, (3, 5, 8, 10))):
        upper = _turned(spine, *_angle(generator, 0.2, 1.1, side))
        lower = _turned(upper, *_angle(generator, -0.35, 0.8, side))
        points[elbow] = points[1] + np.float32(0.17) * upper
        points[hand] = points[elbow] + np.float32(0.17) * lower
        thigh = _turned(spine, *_angle(generator, 0.1, 0.4, side))
        shank = _turned(thigh, *_angle(generator, -0.25, 0.05, side))
        points[knee] = points[6] + np.float32(0.22) * thigh
        points[foot] = points[knee] + np.float32(0.22) * shank
    start = uniform(generator, -0.05, 0.62, 1), uniform(generator, 0.12, 0.88, 1)
    return points * height + np.concatenate(start) * np.float32(size), height


def _angle(
    generator: np.random.Generator, low: float, high: float, side: int = 1
) -> tuple[np.float32, np.float32]:
    """Cosine and sine of a sampled angle, of which the range is that of half its tangent."""
    t = np.float32(side) * uniform(generator, low, high, 1)[0]
    square = 1 + t * t
    return (1 - t * t) / square, 2 * t / square


def _turned(direction: np.ndarray, cosine: np.float32, sine: np.float32) -> np.ndarray:
    """Turns `(y, x)` so that "down" goes to the right of the picture for a sine > 0."""
    y, x = direction
    return np.array([cosine * y - sine * x, cosine * x + sine * y], np.float32)


def _outline(points: np.ndarray, height: np.float32, size: int) -> Plane:
    """Distance to the outline of a figure, pixels, negative inside."""
    rows = np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5)
    columns = np.arange(size, dtype=np.float32)[None] + np.float32(0.5)
    y, x = rows - points[0, 0], columns - points[0, 1]
    distance = np.sqrt(y * y + x * x) - np.float32(_HEAD) * height
    width = np.maximum(np.float32(_LIMB) * height, np.float32(1.2))
    for first, last in BONES:
        start, bone = points[first], points[last] - points[first]
        y, x = rows - start[0], columns - start[1]
        along = (y * bone[0] + x * bone[1]) / (bone[0] * bone[0] + bone[1] * bone[1])
        along = np.clip(along, 0, 1)
        y, x = y - along * bone[0], x - along * bone[1]
        distance = np.minimum(distance, np.sqrt(y * y + x * x) - width)
    return distance
