"""Where the cells of a rendered EM volume are: a warped power diagram that drifts.

Every cell is one seed or a few, and every seed a track through the sections: a centre
that drifts and a radius that swells, shrinks and may end. A pixel belongs to the seed
of smallest power distance `|x - centre|^2 - radius^2`, measured after a smooth warp of
the plane that itself changes from section to section. So a section is a plane through
one and the same set of bodies, membranes shift by a few pixels between sections, and how
far they shift shows how obliquely the section cuts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segjax.data.datasets.synthetic.em_noise import Plane, SmoothNoise
from segjax.data.datasets.synthetic.em_tracks import Tracks

_BLOCK = 8  # pixels; candidates are found once per block of this side
_CANDIDATES = 12
_ROUNDING = 4.5  # pixels over which a cell's corner is rounded


@dataclass(frozen=True)
class CellPlane:
    """One section of the diagram; all planes `[H, W]`.

    Attributes:
      cell: Cell number of at least 1, int32.
      distance: To the nearest boundary of another cell, in pixels.
      shift: How far that boundary moves to the next section, in pixels.
      y: Warped coordinates, in which the tracks are given.
      x: As `y`.
    """

    cell: np.ndarray
    distance: Plane
    shift: Plane
    y: Plane
    x: Plane


class Diagram:
    """The power diagram of `tracks`, cut section by section.

    Args:
      generator: Where the warp comes from.
      tracks: The seeds.
      height: Height of a section in pixels, a multiple of 8.
      width: Width of a section in pixels, a multiple of 8.
    """

    def __init__(
        self, generator: np.random.Generator, tracks: Tracks, height: int, width: int
    ) -> None:
        shape = (len(tracks.y) - 1, height, width)
        self._tracks = tracks
        self._shape = (height, width)
        self._warp_of: dict[int, tuple[Plane, Plane]] = {}
        self._warps = [
            [
                (amplitude, SmoothNoise(generator, shape, spacing=spacing, depth=depth))
                for amplitude, spacing, depth in (
                    (13.0, 70.0, 7.0),
                    (2.2, 17.0, 5.0),
                    (0.7, 6.0, 2.0),
                )
            ]
            for _ in range(2)
        ]

    def _warped(self, z: int) -> tuple[Plane, Plane]:
        """Where the pixels of section `z` lie in the plane of the tracks, in blocks."""
        if z not in self._warp_of:
            height, width = self._shape
            start_y = np.arange(height, dtype=np.float32)[:, None]
            start_x = np.arange(width, dtype=np.float32)[None, :]
            y, x = (
                start + sum(np.float32(a) * noise.section(z) for a, noise in warp)
                for start, warp in zip((start_y, start_x), self._warps, strict=True)
            )
            # Only this section and the next are ever asked for together.
            kept = {k: v for k, v in self._warp_of.items() if k == z - 1}
            self._warp_of = {**kept, z: (_to_blocks(y), _to_blocks(x))}
        return self._warp_of[z]

    def section(self, z: int) -> CellPlane:
        """Cuts section `z`."""
        t = self._tracks
        y, x = self._warped(z)
        near = _candidates(y, x, t.y[z], t.x[z], t.weight[z])
        cy, cx = t.y[z][near], t.x[z][near]  # [K, blocks]
        offset = cy * cy + cx * cx - t.weight[z][near]
        power = -2 * (y * cy[:, None] + x * cx[:, None]) + offset[:, None]
        own = power.argmin(axis=0)
        block = np.arange(own.shape[1])
        first, least = near[own, block], power.min(axis=0)
        distance = np.full(y.shape, np.float32(1e6))
        second = first
        first_cell, first_y, first_x = t.cell[first], t.y[z][first], t.x[z][first]
        for k in range(_CANDIDATES):
            dy, dx = first_y - cy[k], first_x - cx[k]
            slope = 2 * np.sqrt(dy * dy + dx * dx) + np.float32(1e-3)
            far = np.where(
                first_cell == t.cell[near[k]],
                np.float32(1e6),
                (power[k] - least) / slope,
            )
            second = np.where(far < distance, near[k], second)
            distance = _rounded_minimum(far, distance)
        shift = self._shift(z, y, x, first, second)
        planes = (
            _from_blocks(p, self._shape) for p in (first_cell, distance, shift, y, x)
        )
        return CellPlane(*planes)

    def _shift(
        self, z: int, y: Plane, x: Plane, first: np.ndarray, second: np.ndarray
    ) -> Plane:
        """Pixels by which the boundary between two seeds moves from `z` to `z + 1`."""
        t = self._tracks
        later_y, later_x = self._warped(z + 1)

        def difference(z: int, y: Plane, x: Plane) -> Plane:
            ay, ax, by, bx = (
                t.y[z][first],
                t.x[z][first],
                t.y[z][second],
                t.x[z][second],
            )
            one = (y - ay) * (y - ay) + (x - ax) * (x - ax) - t.weight[z][first]
            two = (y - by) * (y - by) + (x - bx) * (x - bx) - t.weight[z][second]
            return two - one

        dy = t.y[z][first] - t.y[z][second]
        dx = t.x[z][first] - t.x[z][second]
        slope = 2 * np.sqrt(dy * dy + dx * dx) + np.float32(1)
        return np.abs(difference(z + 1, later_y, later_x) - difference(z, y, x)) / slope


def _rounded_minimum(a: Plane, b: Plane) -> Plane:
    """The smaller one, less up to a quarter of `_ROUNDING` where both are alike."""
    alike = np.maximum(np.float32(_ROUNDING) - np.abs(a - b), 0)
    return np.minimum(a, b) - alike * alike * np.float32(0.25 / _ROUNDING)


def _scale(y: Plane, x: Plane) -> Plane:
    """Warped pixels per pixel: the root of the warp's determinant, at least 0.5."""
    yy, yx = _slope(y, 0), _slope(y, 1)
    xy, xx = _slope(x, 0), _slope(x, 1)
    return np.sqrt(np.maximum(yy * xx - yx * xy, np.float32(0.25)))


def _slope(plane: Plane, axis: int) -> Plane:
    """Forward difference along `axis`, the last one repeated."""
    difference = np.diff(plane, axis=axis)
    last = difference[-1:] if axis == 0 else difference[:, -1:]
    return np.concatenate([difference, last], axis=axis)


def _to_blocks(plane: Plane) -> Plane:
    """`[H, W]` to `[64, blocks]`, so that what is one value per block broadcasts."""
    h, w = (n // _BLOCK for n in plane.shape)
    blocks = plane.reshape(h, _BLOCK, w, _BLOCK).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(blocks).reshape(_BLOCK * _BLOCK, h * w)


def _from_blocks(blocks: Plane, shape: tuple[int, int]) -> Plane:
    """The inverse of `_to_blocks`."""
    h, w = (n // _BLOCK for n in shape)
    plane = blocks.reshape(_BLOCK, _BLOCK, h, w).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(plane).reshape(shape)


def _candidates(
    y: Plane, x: Plane, cy: np.ndarray, cx: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """The seeds that can matter in each block, `[K, blocks]`, in rising order."""
    middle = _BLOCK * (_BLOCK // 2) + _BLOCK // 2
    dy, dx = y[middle][:, None] - cy, x[middle][:, None] - cx
    power = dy * dy + dx * dx - weight
    near = np.argpartition(power, _CANDIDATES, axis=1)[:, :_CANDIDATES]
    return np.ascontiguousarray(np.sort(near, axis=1).T)
