"""Where maps of different strides lie over the image, and how to bring them together.

A map's first unit need not lie on the image's first pixel: unpadded layers move it to
the right, padding to the left. Layers along one axis say where it lies (its *centre*,
in `geometry.fields`), and everything else follows: how far to crop after a map was
enlarged so that it meets a finer map, or the image, unit on unit.

This is how FCN's crops come about (Long, Shelhamer & Darrell 2015, arXiv 1411.4038; the
offsets are those of the authors' release).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from segjax.geometry.fields import Layer, output_size, receptive_field

Path = tuple[Layer, ...]

MOST_PERIODS = 16
"""Strides within which the smallest side is looked for."""

IMAGE: Path = ()
"""The path to the image itself: no layers."""


@dataclass(frozen=True)
class Step:
    """One enlargement of a map along an axis, and the crops after it.

    Attributes:
      factor: output pixels from one input pixel to the next.
      taps: of the bilinear kernel.
      start: units to drop at the beginning of the enlarged map.
      target_start: units to drop at the beginning of the map that it meets.
    """

    factor: int
    taps: int
    start: int
    target_start: int

    def length(self, coarse: int, target: int) -> int:
        """Units that the enlarged map of `coarse` units and the target share."""
        enlarged = self.factor * (coarse - 1) + self.taps
        return min(enlarged - self.start, target - self.target_start)


@functools.cache
def align(coarse: Path, targets: tuple[Path, ...]) -> tuple[Step, ...]:
    """Plans how a map is enlarged to meet one finer map after the other.

    Kernels are bilinear. A kernel of an even number of taps moves units by half a unit
    of the finer map, one of an odd number does not: the one that makes units meet is
    taken.

    Args:
      coarse: layers from the image to the map.
      targets: layers from the image to each of the finer maps, the coarsest first;
        `IMAGE` for the image itself.

    Returns:
      One step for each target.

    Raises:
      ValueError: if units cannot meet, or if the image has pixels before the first unit.

    Example:
      >>> pool = Layer("pool", 2, stride=2)
      >>> align((pool, pool), ((pool,), IMAGE))
      ... # doctest: +NORMALIZE_WHITESPACE
      (Step(factor=2, taps=4, start=1, target_start=0),
       Step(factor=2, taps=4, start=1, target_start=0))
    """
    field = receptive_field(coarse)
    centre, stride = field.centre, field.stride
    steps = []
    for target in targets:
        goal = receptive_field(target)
        step, centre = _step(centre, stride, goal.centre, goal.stride)
        stride = goal.stride
        if not target and step.target_start:
            raise ValueError(
                f"the first score lies {step.target_start} pixels too far inside the "
                "image to reach its border; a larger first_padding of the backbone "
                "moves it outwards"
            )
        steps.append(step)
    return tuple(steps)


def _step(
    centre: float, stride: float, goal: float, goal_stride: float
) -> tuple[Step, float]:
    """The step between two grids, and the centre of the first unit that is left."""
    factor = int(stride / goal_stride)
    if factor * goal_stride != stride:
        raise ValueError(
            f"a map of stride {stride:g} cannot be enlarged to one of stride "
            f"{goal_stride:g}; maps go from coarse to fine, by whole factors"
        )
    usual = bilinear_taps(factor)
    for taps in (usual, usual - 1 if factor > 1 else usual):
        first = centre - (taps - 1) / 2 * goal_stride
        offset = (goal - first) / goal_stride
        if offset == int(offset):
            start, target_start = max(int(offset), 0), max(-int(offset), 0)
            return Step(factor, taps, start, target_start), max(first, goal)
    raise ValueError(
        f"a map whose first unit lies at {centre:g} pixels cannot meet one at {goal:g} "
        f"pixels with stride {goal_stride:g}"
    )


@functools.cache
def minimum_side(coarse: Path, targets: tuple[Path, ...], aligned: bool = True) -> int:
    """The least side of an image from which every side is covered by its scores.

    Args:
      coarse: layers from the image to the coarsest map.
      targets: layers from the image to the finer maps, as in `align`.
      aligned: whether maps are enlarged by the steps of `align`; else they are resized
        to whatever size is needed, and have to be there at all.

    Returns:
      Pixels.

    Raises:
      ValueError: if units cannot meet, or if there is no such side.
    """
    steps = align(coarse, targets) if aligned else ()
    period = int(receptive_field(coarse).stride)
    covered = 0
    for side in range(1, MOST_PERIODS * period):
        covered = covered + 1 if _covers(coarse, targets, steps, side) else 0
        if covered == 2 * period:
            return side + 1 - covered
    raise ValueError(
        "the scores do not reach the end of images of some sides, because pooling drops "
        "rows there; ceil_mode=True of the backbone keeps them"
    )


def _covers(
    coarse: Path, targets: tuple[Path, ...], steps: Sequence[Step], side: int
) -> bool:
    try:
        size = output_size(coarse, side)
        sizes = [output_size(target, side) for target in targets]
    except ValueError:
        return False
    for step, target in zip(steps, sizes, strict=False):
        size = step.length(size, target)
        if size < 1:
            return False
    return not steps or size == side


def bilinear_taps(factor: int) -> int:
    """The taps of the bilinear kernel that enlarges by `factor`.

    Example:
      >>> bilinear_taps(32), bilinear_taps(3)
      (64, 5)
    """
    return 2 * factor - factor % 2
