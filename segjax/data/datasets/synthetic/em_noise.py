"""Random fields and small filters that give the same bits on every machine.

Only additions, products, quotients, square roots and comparisons of whole arrays
are used: IEEE 754 rounds each of them in one way. `exp`, `sin`, matrix products and
compiled filters are avoided, since their last bits depend on the processor.
"""

from __future__ import annotations

import numpy as np

Plane = np.ndarray

# One axis of cubic B-spline weights keeps 0.69 of the standard deviation of white values.
_SPLINE_DEVIATION = 0.69


def generator_of(*seeds: int) -> np.random.Generator:
    """A Philox generator whose stream is named by a sequence of numbers >= 0."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seeds)))


def uniform(
    generator: np.random.Generator, low: float, high: float, size: int | tuple
) -> np.ndarray:
    """Uniform float32 values in `[low, high)`, scaled by one product and one sum."""
    span = np.float32(high - low)
    return np.float32(low) + span * generator.random(size, dtype=np.float32)


def _spline_weights(fraction: np.ndarray) -> tuple[np.ndarray, ...]:
    """The four uniform cubic B-spline weights at `fraction` in [0, 1)."""
    rest = 1 - fraction
    square, cube = fraction * fraction, fraction * fraction * fraction
    return (
        rest * rest * rest / 6,
        (3 * cube - 6 * square + 4) / 6,
        (3 * (fraction + square - cube) + 1) / 6,
        cube / 6,
    )


def _spline_axis(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Evaluates a spline along the first axis of `grid` at `positions` (in nodes)."""
    start = positions.astype(np.int64)
    fraction = (positions - start).astype(np.float32)
    shape = (-1,) + (1,) * (grid.ndim - 1)
    parts = [
        weight.reshape(shape) * grid[start + tap]
        for tap, weight in enumerate(_spline_weights(fraction))
    ]
    return parts[0] + parts[1] + parts[2] + parts[3]


class SmoothNoise:
    """A smooth random field over a volume, read section by section.

    White values on a coarse grid are joined by cubic B-splines; the result has mean
    0 and a standard deviation of about 1.

    Args:
      generator: Where the values come from.
      shape: `(sections, H, W)` of the volume; one section more can be read.
      spacing: Distance of the grid's nodes along H and W, in pixels.
      depth: Distance of the grid's nodes across sections, in sections.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        shape: tuple[int, int, int],
        *,
        spacing: float,
        depth: float,
    ) -> None:
        sections, height, width = shape
        nodes = [int(n / s) + 4 for n, s in ((height, spacing), (width, spacing))]
        grid = generator.standard_normal(
            (int((sections + 1) / depth) + 4, *nodes), dtype=np.float32
        )
        self._grid = grid / np.float32(_SPLINE_DEVIATION**3)
        self._depth = depth
        self._rows = np.arange(height) / spacing
        self._columns = np.arange(width) / spacing

    def section(self, z: int) -> Plane:
        """The field in section `z`, float32 `[H, W]`."""
        plane = _spline_axis(self._grid, np.array([z / self._depth]))[0]
        narrow = _spline_axis(np.ascontiguousarray(plane.T), self._columns).T
        return _spline_axis(np.ascontiguousarray(narrow), self._rows)


def bump(x: np.ndarray) -> np.ndarray:
    """A bell of height 1 and half width 0.55: `(1 - x^2)^2` inside of [-1, 1], else 0."""
    inside = np.maximum(1 - x * x, 0)
    return inside * inside


def blur(plane: Plane, taps: tuple[float, ...]) -> Plane:
    """Separable symmetric blur; `taps` are the weights at distance 0, 1, 2, ... pixels.

    The plane is mirrored at its border. The weights are scaled to a sum of one.
    """
    total = np.float32(taps[0] + 2 * sum(taps[1:]))
    radius = len(taps) - 1
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        wide = np.pad(plane, pad, mode="symmetric")
        n = plane.shape[axis]

        def shifted(by: int, wide: Plane = wide, n: int = n, axis: int = axis) -> Plane:
            window = slice(radius + by, radius + by + n)
            return wide[window] if axis == 0 else wide[:, window]

        plane = np.float32(taps[0] / total) * shifted(0)
        for distance, tap in enumerate(taps[1:], start=1):
            plane += np.float32(tap / total) * (shifted(-distance) + shifted(distance))
    return plane
