"""The warping error: what is left of a difference once topology alone counts."""

from __future__ import annotations

import functools
import itertools

import numpy as np

# The eight neighbours as (row, column), in the order of the bits of a neighbourhood.
_NEIGHBOURS = tuple(
    (row, column)
    for row, column in itertools.product((-1, 0, 1), repeat=2)
    if (row, column) != (0, 0)
)


def warping_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Fraction of pixels on which a prediction differs from the truth in its topology.

    Jain et al. 2010 (Boundary Learning by Optimization with Topological Constraints,
    CVPR, doi 10.1109/CVPR.2010.5539950); Arganda-Carreras et al. 2015. The truth is warped
    towards the prediction by `warp`; the error is the fraction of pixels
    that still differ. A membrane that is thicker, thinner, or lies beside the true one
    costs nothing; a gap in it (a merger), a membrane too many (a split), an invented or a
    lost cell do. Only pixels that differ are ever flipped, as in the sources, so
    a thin membrane cannot jump: shifted farther than its width, it is one lost and
    one invented.

    Args:
      truth: bool `[H, W]`, true inside of cells.
      prediction: bool `[H, W]`.

    Returns:
      The error in [0, 1].

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.

    Example:
      >>> line, shifted, gap = (np.ones((5, 5), bool) for _ in range(3))
      >>> line[:, 2] = shifted[:, 3] = gap[:, 2] = False
      >>> gap[2, 2] = True
      >>> warping_error(line, shifted), warping_error(line, gap)
      (0.0, 0.04)
    """
    return float(np.mean(warp(truth, prediction) != np.asarray(prediction, bool)))


def warp(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Moves the truth towards the prediction without changing its topology.

    Where the two differ and the pixel is simple, the pixel takes the value of the
    prediction, until no pixel changes any more. A pixel is simple if flipping it neither
    joins, splits, makes nor removes a component of cells (4-connected) or of membrane
    (8-connected; outside of the image is membrane). Any warping so found is a local
    optimum, the order of the flips chooses which: the paper and the challenge's software
    start with the pixels that are farthest from the threshold; here the four
    subfields (row mod 2, column mod 2) take turns. Two pixels of one subfield are
    not neighbours, so flipping them together is flipping them one by one.

    Args:
      truth: bool `[H, W]`, true inside of cells.
      prediction: bool `[H, W]`.

    Returns:
      The warped truth, bool `[H, W]`.

    Raises:
      ValueError: if the shapes differ or are not two-dimensional.
    """
    truth, target = np.asarray(truth, bool), np.asarray(prediction, bool)
    if truth.ndim != 2 or truth.shape != target.shape:
        raise ValueError(
            "truth and prediction must have one shape [H, W], got "
            f"{truth.shape} and {target.shape}"
        )
    simple = simple_neighbourhoods()
    warped = np.pad(truth, 1).view(np.uint8).ravel()
    target = np.pad(target, 1).view(np.uint8).ravel()
    columns = truth.shape[1] + 2
    steps = [row * columns + column for row, column in _NEIGHBOURS]

    # A pixel can only have become simple if a neighbour changed since it was looked at:
    # `waiting` holds, for each subfield, the pixels to look at.
    waiting = _by_subfield(np.flatnonzero(warped != target), columns)
    while any(len(pixels) for pixels in waiting):
        for subfield in range(4):
            pixels, waiting[subfield] = waiting[subfield], waiting[subfield][:0]
            code = np.zeros(len(pixels), np.uint8)
            for bit, step in enumerate(steps):
                code |= warped[pixels + step] << np.uint8(bit)
            flipped = pixels[simple[code]]
            if not len(flipped):
                continue
            warped[flipped] = target[flipped]
            near = (flipped[:, None] + steps).ravel()
            near = np.unique(near[warped[near] != target[near]])
            for k, pixels in enumerate(_by_subfield(near, columns)):
                if len(pixels):
                    waiting[k] = np.union1d(waiting[k], pixels)
    return warped.reshape(-1, columns)[1:-1, 1:-1].astype(bool)


@functools.cache
def simple_neighbourhoods() -> np.ndarray:
    """Says of each of the 256 neighbourhoods whether its centre is simple.

    For 4-connected cells and 8-connected membrane (Kong and Rosenfeld 1989, Digital
    topology): exactly one 4-connected component of the cells among the eight
    neighbours touches the centre by an edge, and the membrane among them is
    exactly one 8-connected component that touches it (all do).

    Returns:
      bool `[256]`. Bit k of the index is the k-th neighbour, row by row.
    """
    table = np.zeros(256, bool)
    for code in range(256):
        cells = {p for bit, p in enumerate(_NEIGHBOURS) if code >> bit & 1}
        membrane = set(_NEIGHBOURS) - cells
        touching = [c for c in _components(cells, 1) if any(_is_edge(p) for p in c)]
        table[code] = len(touching) == 1 and len(_components(membrane, 2)) == 1
    table.setflags(write=False)
    return table


def _is_edge(pixel: tuple[int, int]) -> bool:
    return 0 in pixel


def _components(pixels: set[tuple[int, int]], reach: int) -> list[set[tuple[int, int]]]:
    """Components of a set of pixels; reach 1: 4-connected, reach 2: 8-connected."""
    left, components = set(pixels), []
    while left:
        component, front = set(), [left.pop()]
        while front:
            pixel = front.pop()
            component.add(pixel)
            near = {
                other
                for other in left
                if max(abs(pixel[0] - other[0]), abs(pixel[1] - other[1])) == 1
                and abs(pixel[0] - other[0]) + abs(pixel[1] - other[1]) <= reach
            }
            left -= near
            front.extend(near)
        components.append(component)
    return components


def _by_subfield(pixels: np.ndarray, columns: int) -> list[np.ndarray]:
    """Splits flat positions by (row mod 2, column mod 2)."""
    rows, column = np.divmod(pixels, columns)
    subfield = (rows & 1) * 2 + (column & 1)
    return [pixels[subfield == k] for k in range(4)]
