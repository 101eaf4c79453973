"""Objects out of the probabilities of a network that labels pixels.

Foreground is thresholded; what touches is parted where it is narrow or where the network
sees a border, by a watershed (Vincent and Soille 1991, IEEE PAMI 13(6)) that begins at the
middles; holes are filled and specks dropped. How far inside a pixel is, is the mean of its
distances to the outside at several probabilities: where touching objects are not parted at
one of them, they are narrower at the next.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segjax.types import is_count, is_integer

_ROUNDING = 1e-6
_LEVELS = (0.3, 0.5, 0.7, 0.9)
"""Probabilities of the inside at which distances are taken."""

_SMOOTHING = 1.0
"""Standard deviation in pixels of the smoothing of distances, which are whole along rows."""


@dataclass(frozen=True)
class Separation:
    """The settings by which objects are found in what a network says of each pixel; the group `config.objects` of an experiment.

    Attributes:
      border: class of outlines, which belong to objects and part them; None where there is
        none.
      threshold: probability of all classes but the background, the class 0, from which on a
        pixel belongs to an object.
      depth: how much narrower a neck is than the parts on both sides of it, where they are
        two objects, pixels of half the width.
      min_area: objects of fewer pixels are dropped, and no smaller hole parts an object,
        unless it is a slit.

    Raises:
      ValueError: if a value is out of its range.
    """

    border: int | None = None
    threshold: float = 0.5
    depth: float = 1.0
    min_area: int = 20

    def __post_init__(self) -> None:
        if self.border is not None and not is_count(self.border):
            raise ValueError(
                f"border must be a class id of at least 1 or None, got {self.border!r}"
            )
        if not 0 < self.threshold < 1:
            raise ValueError(
                f"threshold must be between 0 and 1, got {self.threshold!r}"
            )
        if not self.depth > 0:
            raise ValueError(f"depth must be above 0 pixels, got {self.depth!r}")
        if not is_integer(self.min_area) or self.min_area < 0:
            raise ValueError(
                f"min_area must be an integer of at least 0, got {self.min_area!r}"
            )

    def at_scale(self, factor: float) -> Separation:
        """The same where pixels are shown to the network `factor` times as large.

        Example:
          >>> Separation(depth=1.0, min_area=40).at_scale(0.5)
          Separation(border=None, threshold=0.5, depth=2.0, min_area=160)
        """
        if factor == 1:
            return self
        area = round(self.min_area / factor**2)
        return dataclasses.replace(self, depth=self.depth / factor, min_area=area)

    def check_classes(self, num_classes: int) -> None:
        """Checks the border against the classes of a data set.

        Raises:
          ValueError: if there is no such class, or none is left for objects.
        """
        least = 2 if self.border is None else 3
        if num_classes < least or (self.border or 0) >= num_classes:
            raise ValueError(
                f"border is {self.border}, but the classes are 0 to {num_classes - 1}; "
                "background and border leave at least one class for objects"
            )


def separate(probabilities: np.ndarray, separation: Separation) -> np.ndarray:
    """Numbers the objects of an image.

    Args:
      probabilities: of each class, `[H, W, K]`; class 0 is the background.
      separation: the settings.

    Returns:
      Numbers of objects from 1, 0 where there is none, int32 `[H, W]`.

    Example:
      >>> inside = np.zeros((12, 20))
      >>> inside[2:10, 2:10] = inside[2:10, 11:18] = inside[5:7, 10] = 1
      >>> probabilities = np.stack([1 - inside, inside], -1)
      >>> int(separate(probabilities, Separation()).max())
      2
    """
    area = separation.min_area
    inside = 1 - probabilities[..., 0]
    foreground = _closed(inside >= separation.threshold, area)
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    if separation.border is not None:
        inside = inside - probabilities[..., separation.border]
    from skimage.segmentation import watershed

    # The rim of the image is not an outline: an object that leaves it is not narrow there.
    levels = (min(_LEVELS[0], separation.threshold), *_LEVELS[1:])
    masks = [foreground & _closed(inside >= level, area) for level in levels]
    distance = np.mean([_distance(mask) for mask in masks], axis=0)
    within = distance > 0
    distance = ndimage.gaussian_filter(distance, _SMOOTHING) * within
    numbers = watershed(
        -distance, _seeds(distance, within, separation), mask=foreground
    )
    return _cleaned(numbers.astype(np.int32), area)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distances to the outside; where there is none, all are alike."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)))
    return ndimage.distance_transform_edt(mask)


def _closed(mask: np.ndarray, area: int) -> np.ndarray:
    """Fills holes of at most an area in pixels, which would look like necks.

    What is more than twice as long as a square of its area is a slit, which parts.
    """
    around = np.pad(~mask, 1, constant_values=True)  # the rim of the image is no hole
    holes = ndimage.label(around)[0][1:-1, 1:-1]
    sizes = np.bincount(holes.ravel())
    small = sizes <= area
    small[:2] = False  # objects, and what reaches the rim
    for number, box in enumerate(ndimage.find_objects(holes), 1):
        if box is not None and small[number]:
            length = max(part.stop - part.start for part in box)
            small[number] = length**2 <= 4 * sizes[number]
    return mask | small[holes]


def _seeds(
    distance: np.ndarray, inside: np.ndarray, separation: Separation
) -> np.ndarray:
    """Numbers the middles, those that rise above the necks between them by the depth."""
    from skimage.morphology import reconstruction

    depth = separation.depth
    dome = distance - reconstruction(np.maximum(distance - depth, 0), distance)
    seeds, count = ndimage.label(dome > depth / 2, np.ones((3, 3)))
    rise = ndimage.maximum(dome, seeds, np.arange(count + 1))
    seeds[(rise < depth - _ROUNDING)[seeds]] = 0
    # A piece too small to rise by the depth is an object of its own.
    pieces, total = ndimage.label(inside)
    lone = np.ones(total + 1, bool)
    lone[pieces[seeds > 0]] = False
    return np.where(lone[pieces] & (pieces > 0), count + pieces, seeds)


def _cleaned(numbers: np.ndarray, min_area: int) -> np.ndarray:
    """Fills the holes of each object, drops specks, and numbers the others anew."""
    cleaned = np.zeros_like(numbers)
    count = 0
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is None:
            continue
        mask = numbers[box] == number
        if mask.sum() < min_area:
            continue
        count += 1
        filled = ndimage.binary_fill_holes(mask)
        cleaned[box][filled & ((numbers[box] == 0) | mask)] = count
    return cleaned
