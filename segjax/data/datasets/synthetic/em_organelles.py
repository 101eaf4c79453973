"""Organelles of rendered EM cells: dark lines and rings that are not cell membranes."""

from __future__ import annotations

import numpy as np

from segjax.data.datasets.synthetic.em_cells import CellPlane
from segjax.data.datasets.synthetic.em_noise import Plane, bump, uniform
from segjax.data.datasets.synthetic.em_tracks import Tracks


class Mitochondria:
    """Mitochondria of a volume: slanted ellipsoids that drift with their cells.

    Args:
      generator: Where the randomness comes from.
      tracks: The seeds; those of more than 13 pixels radius may hold some.
      sections: Number of sections.
    """

    def __init__(
        self, generator: np.random.Generator, tracks: Tracks, sections: int
    ) -> None:
        wide = np.flatnonzero(tracks.radius > 13)
        count = np.minimum(tracks.radius[wide] / 22, 2.2)
        count = (count * generator.random(len(wide)) + 0.1).astype(int)
        self._tracks = tracks
        self._host = np.repeat(wide, count)
        n = len(self._host)
        room = tracks.radius[self._host]
        self._length = np.minimum(uniform(generator, 0.32, 0.55, n) * room, 21) + 4
        self._width = self._length * uniform(generator, 0.55, 0.9, n)
        self._offset = uniform(generator, -0.45, 0.45, (2, n)) * room
        turn = uniform(generator, -1, 1, (2, n))
        turn /= np.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + np.float32(1e-6))
        self._turn = turn
        self._slant = uniform(generator, -1.5, 1.5, (2, n))
        self._middle = uniform(generator, -2, sections + 2, n)
        self._reach = uniform(generator, 3, 11, n)
        self._spacing = uniform(generator, 4.5, 7.0, n)
        self._matrix = uniform(generator, 78, 118, n)

    def render(self, grey: Plane, z: int, plane: CellPlane, cloud: Plane) -> Plane:
        """Renders those that section `z` cuts into `grey` and returns it.

        Args:
          grey: Grey levels `[H, W]`, changed in place.
          z: The section.
          plane: Its cells.
          cloud: A smooth field that bends the cristae, `[H, W]`.
        """
        along = (z - self._middle) / self._reach
        swell = np.sqrt(np.maximum(1 - along * along, 0))
        for i in np.flatnonzero(swell > 0.3):
            self._plot_one(grey, z, int(i), np.float32(swell[i]), plane, cloud)
        return grey

    def _plot_one(
        self,
        grey: Plane,
        z: int,
        i: int,
        swell: np.float32,
        plane: CellPlane,
        cloud: Plane,
    ) -> None:
        host = self._host[i]
        late = np.float32(z - self._middle[i])
        cy = self._tracks.y[z][host] + self._offset[0, i] + late * self._slant[0, i]
        cx = self._tracks.x[z][host] + self._offset[1, i] + late * self._slant[1, i]
        length = self._length[i] * swell
        window = _window(plane, cy, cx, float(length) + 4)
        if window is None:
            return
        dy, dx = plane.y[window] - cy, plane.x[window] - cx
        turn = self._turn[:, i]
        u = dy * turn[0] + dx * turn[1]
        v = (dx * turn[0] - dy * turn[1]) * (length / (self._width[i] * swell))
        v = v + 2 * cloud[window]
        depth = length - np.sqrt(u * u + v * v)  # pixels below its own surface
        room = plane.distance[window] - 5
        room = np.where(plane.cell[window] == self._tracks.cell[host], room, -1)
        depth = np.minimum(depth, room)
        phase = u / self._spacing[i] + np.float32(0.8) * cloud[window]
        wave = np.abs(phase - np.floor(phase) - np.float32(0.5)) * 4 - 1  # triangle
        inner = np.clip((depth - 4) / 2, 0, 1)
        rendered = self._matrix[i] + 38 * wave * inner
        rendered = rendered - 52 * bump((depth - 1) / 2) - 30 * bump((depth - 5) / 2)
        cover = np.clip(depth + 1, 0, 1)
        grey[window] += cover * (rendered - grey[window])


def _window(
    plane: CellPlane, cy: np.float32, cx: np.float32, radius: float
) -> tuple[slice, slice] | None:
    """The part of the picture in which warped coordinates come near a centre."""
    near = (np.abs(plane.y - cy) < radius) & (np.abs(plane.x - cx) < radius)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


# Trials per 10^4 pixels, smallest and largest radius, half width of the wall, darkness
# of wall and of filling, in crowded cells only, patch radius; lengths in pixels.
_RINGS = (
    (140, 2.5, 4.5, 1.8, 0.62, 0.08, True, 8),  # vesicles
    (30, 0.6, 1.4, 1.8, 0.75, 0.40, False, 5),  # microtubules
    (1.6, 3.0, 5.5, 2.0, 0.65, 0.70, False, 9),  # dense granules
    (0.9, 8.0, 12.0, 2.4, 0.90, 0.10, False, 16),  # multivesicular bodies
)


def render_rings(
    generator: np.random.Generator, plane: CellPlane, crowd: Plane, inside: Plane
) -> Plane:
    """Renders what is round and small.

    Args:
      generator: Where the randomness comes from.
      plane: The cells of the section.
      crowd: How likely a vesicle is at each pixel, in [0, 1].
      inside: 1 well inside of a cell, falling to 0 at its membrane.

    Returns:
      Darkness `[H, W]`, 1 is black.
    """
    dark = np.zeros_like(inside)
    for density, low, high, wall, edge, fill, crowded, patch in _RINGS:
        n = int(density * dark.size / 1e4) + 1
        y = generator.random(n, dtype=np.float32) * dark.shape[0]
        x = generator.random(n, dtype=np.float32) * dark.shape[1]
        radius = uniform(generator, low, high, n)
        chance = generator.random(n, dtype=np.float32)
        strength = uniform(generator, 0.5, 1.1, n)
        row, column = y.astype(np.int64), x.astype(np.int64)
        room = plane.distance[row, column] > radius + 4
        kept = room & (chance < crowd[row, column]) if crowded else room
        y, x, radius, strength = y[kept], x[kept], radius[kept], strength[kept]
        _stamp(dark, y, x, radius, strength, (wall, edge, fill), patch)
    return dark * inside


def _stamp(
    dark: Plane,
    y: np.ndarray,
    x: np.ndarray,
    radius: np.ndarray,
    strength: np.ndarray,
    look: tuple[float, float, float],
    patch: int,
) -> None:
    """Adds rings of `look` = (half width of the wall, its darkness, the filling's)."""
    wall, edge, fill = look
    reach = np.arange(-patch, patch + 1)
    rows = y.astype(np.int64)[:, None, None] + reach[:, None]
    columns = x.astype(np.int64)[:, None, None] + reach
    dy = rows.astype(np.float32) - y[:, None, None]
    dx = columns.astype(np.float32) - x[:, None, None]
    out = np.sqrt(dy * dy + dx * dx) - radius[:, None, None]
    shade = np.float32(edge) * bump(out / np.float32(wall))
    shade = np.maximum(shade, np.float32(fill) * (out < 0))
    rows, columns = np.broadcast_arrays(rows, columns)
    seen = (
        (rows >= 0)
        & (rows < dark.shape[0])
        & (columns >= 0)
        & (columns < dark.shape[1])
    )
    shade = shade * strength[:, None, None]
    np.add.at(dark, (rows[seen], columns[seen]), shade[seen])
