"""The seeds of rendered EM cells, and the tracks they follow through the sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segjax.data.datasets.synthetic.em_noise import uniform

MARGIN = 48
"""Seeds are also placed this far outside of the picture, in pixels."""

# Fraction of the area, smallest and largest radius in pixels: bodies, neurites, twigs.
_SIZES = ((0.28, 34.0, 58.0), (0.40, 16.0, 30.0), (0.17, 7.5, 12.0))


@dataclass(frozen=True)
class Tracks:
    """The seeds of a volume of Z sections: `S` seeds, and one section more at the end.

    Attributes:
      cell: Which cell each seed belongs to, from 1, int32 `[S]`.
      radius: Radius at the seed's own middle, in pixels, `[S]`.
      y: Centre in each section, in pixels of the warped plane, `[Z + 1, S]`.
      x: As `y`.
      weight: Squared radius in each section, negative past a cell's end, `[Z + 1, S]`.
    """

    cell: np.ndarray
    radius: np.ndarray
    y: np.ndarray
    x: np.ndarray
    weight: np.ndarray


def _place(
    generator: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places circles, large ones first, each where it overlaps the others least.

    Returns:
      Centres `[S, 2]` and radii `[S]`.
    """
    sides = np.array([height + 2 * MARGIN, width + 2 * MARGIN], np.float32)
    area = float(sides[0] * sides[1])
    radii = np.concatenate(
        [
            uniform(
                generator,
                low,
                high,
                max(2, int(fraction * area / (0.8 * (low + high) ** 2))),
            )
            for fraction, low, high in _SIZES
        ]
    )
    centers = np.zeros((len(radii), 2), np.float32)
    for i, radius in enumerate(radii):
        trial = generator.random((24, 2), dtype=np.float32) * sides - MARGIN
        if i:
            step = trial[:, None] - centers[None, :i]
            gap = np.sqrt(step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1])
            gap = (gap - radii[:i]).min(axis=1) - radius
            # Of those that fit, the tightest; if none fits, the one that overlaps least.
            fit = np.where(gap > 0, -gap, gap - 1e3)
            trial = trial[fit.argmax()][None]
        centers[i] = trial[0]
    return centers, radii


def _join(
    generator: np.random.Generator, centers: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    """Joins some seeds to their neighbours, so that cells are not all convex.

    Returns:
      The cell of each seed, int32 `[S]`, from 1.
    """
    cell = np.arange(1, len(radii) + 1, dtype=np.int32)
    for first in generator.permutation(len(radii))[: len(radii) // 7]:
        turn = uniform(generator, -1, 1, 2)
        turn = turn / np.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + np.float32(1e-6))
        at = first
        for _ in range(int(generator.integers(1, 4))):
            goal = centers[at] + turn * (radii[at] + 10)
            step = centers - goal
            off = (
                step[:, 0] * step[:, 0]
                + step[:, 1] * step[:, 1]
                + 1e6 * (cell == cell[at])
            )
            at = int(off.argmin())
            cell[at] = cell[first]
    return cell


def sample_tracks(
    generator: np.random.Generator, sections: int, height: int, width: int
) -> Tracks:
    """Renders the seeds of one volume.

    Args:
      generator: Where the randomness comes from.
      sections: Number of sections, Z.
      height: Height of a section in pixels.
      width: Width of a section in pixels.

    Returns:
      The tracks, for Z sections and the one after.
    """
    centers, radii = _place(generator, height, width)
    n = len(radii)
    z = np.arange(sections + 1, dtype=np.float32)[:, None]
    speed = generator.standard_normal((2, sections + 1, n), dtype=np.float32)
    steady = generator.standard_normal((2, 1, n), dtype=np.float32)
    path = np.zeros((2, sections + 1, n), np.float32)
    for k in range(1, sections + 1):
        path[:, k] = path[:, k - 1] + np.float32(1.0) * speed[:, k]
    drift = path + np.float32(1.0) * steady * (z - sections / 2)
    # Two in five seeds are bodies with two ends; the others run through the volume.
    middle = uniform(generator, -2, sections + 2, n)
    reach = radii / np.float32(3.5) + uniform(generator, 2, 7, n)
    reach = np.where(generator.random(n) < 0.4, reach, np.float32(1e3))
    along = (z - middle) / reach
    swell = 1 + np.float32(0.1) * generator.standard_normal(n, dtype=np.float32) * along
    weight = radii * radii * (swell - along * along)
    return Tracks(
        cell=_join(generator, centers, radii),
        radius=radii,
        y=centers[:, 0] + drift[0],
        x=centers[:, 1] + drift[1],
        weight=weight.astype(np.float32),
    )
