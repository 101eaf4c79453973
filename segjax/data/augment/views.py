"""Random changes of training examples of objects: which part of an image is seen, and how.

An augmentation of places is a function `(view, rng, **arguments) -> view`. Nothing is
resampled by it: at the end image, boxes, masks and keypoints are read once, from the record
itself, through the view (`segjax.data.instance.examples`). So they move together, and
several augmentations blur no more than one. Those of colours are functions of
`segjax.data.augment.photometric` and see the image in [0, 1] that comes out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.augment.arguments import FACTORS, interval, number
from segjax.data.augment.augmentations import (
    Augmentations,
    apply_outside,
    check_names,
)
from segjax.data.augment.copy_paste import paste_objects
from segjax.data.augment.crops import sample_start
from segjax.data.augment.photometric import (
    brightness_contrast,
    color_jitter,
    gaussian_blur,
    gaussian_noise,
)
from segjax.data.augment.rand_augment import rand_augment_colors
from segjax.errors import UserError
from segjax.types import Example, Record


@dataclasses.dataclass(frozen=True)
class View:
    """The part of an image that is seen, before it is fitted into a bucket.

    Attributes:
      size: `(height, width)` of the image, pixels; exchanged where it is transposed.
      transposed: whether rows and columns change places, before everything else.
      top: first row that is seen.
      left: first column that is seen.
      height: rows that are seen.
      width: columns that are seen.
      zoom: factor of magnification, on top of that of the bucket.
      flipped: whether it is mirrored up-down and left-right, after everything else.
    """

    size: tuple[int, int]
    transposed: bool
    top: int
    left: int
    height: int
    width: int
    zoom: float = 1.0
    flipped: tuple[bool, bool] = (False, False)

    @property
    def mirrors(self) -> bool:
        """Whether left and right change places; two mirrors are a turn."""
        return self.transposed ^ self.flipped[0] ^ self.flipped[1]


def whole(size: tuple[int, int]) -> View:
    """Sees all of an image of a size `(height, width)`, pixels."""
    return View(size, False, 0, 0, *size)


def flip(
    view: View,
    rng: np.random.Generator,
    *,
    horizontal: bool = True,
    vertical: bool = False,
) -> View:
    """Mirrors left-right and up-down, each with probability 1/2.

    Keypoints named "left" and "right" change places with a mirror.

    Args:
      view: the view.
      rng: source of randomness.
      horizontal: whether left and right may be exchanged.
      vertical: whether up and down may be; False for photographs.

    Returns:
      The view, mirrored or not.

    Raises:
      ValueError: when one of the two is neither True nor False.
    """
    for name, allowed in (("horizontal", horizontal), ("vertical", vertical)):
        if not isinstance(allowed, bool):
            raise ValueError(f"{name} must be True or False, got {allowed!r}")
    down, right = ((rng.random(2) < 0.5) & (vertical, horizontal)).tolist()
    flipped = (view.flipped[0] ^ down, view.flipped[1] ^ right)
    return dataclasses.replace(view, flipped=flipped)


def transpose(view: View, rng: np.random.Generator) -> View:
    """Exchanges rows and columns with probability 1/2; with both flips, quarter turns.

    It comes first, wherever it is listed, so that buckets and crops see its sides. Images
    that are not square then change their bucket's orientation: they are fitted anew.
    """
    if rng.random() >= 0.5:
        return view
    return dataclasses.replace(
        view,
        size=view.size[::-1],
        transposed=not view.transposed,
        top=view.left,
        left=view.top,
        height=view.width,
        width=view.height,
        flipped=view.flipped[::-1],
    )


def scale(
    view: View, rng: np.random.Generator, *, scale: Sequence[float] = (0.8, 1.25)
) -> View:
    """Magnifies by a random factor; of what is larger than the bucket, a part is seen.

    Args:
      view: the view.
      rng: source of randomness.
      scale: range of the factor, sampled uniformly in its logarithm.

    Returns:
      The view, magnified.

    Raises:
      ValueError: when the range is not `(low, high)`, or a number is out of its range.
    """
    low, high = np.log(interval("scale", scale, *FACTORS))
    zoom = float(np.exp(rng.uniform(low, high)))
    return dataclasses.replace(view, zoom=view.zoom * zoom)


def crop(
    view: View,
    rng: np.random.Generator,
    *,
    fraction: Sequence[float] = (0.5, 1.0),
    probability: float = 0.5,
) -> View:
    """Sees a random window; objects that it cuts are clipped, or dropped.

    Args:
      view: the view.
      rng: source of randomness.
      fraction: range of the window's sides as fractions of what was seen before, one sampled
        uniformly for each side.
      probability: how often there is a window at all.

    Returns:
      The view, or a part of it.

    Raises:
      ValueError: when the range is not `(low, high)`, or a number is out of its range.
    """
    low, high = interval("fraction", fraction, 0.01, 1.0)
    cut = rng.random() < number("probability", probability, 0, 1)
    if not cut:
        return view
    height, width = (
        max(1, round(float(rng.uniform(low, high)) * side))
        for side in (view.height, view.width)
    )
    return dataclasses.replace(
        view,
        top=view.top + sample_start(rng, view.height, height),
        left=view.left + sample_start(rng, view.width, width),
        height=height,
        width=width,
    )


PLACES: Mapping[str, Callable[..., View]] = {
    "flip": flip,
    "transpose": transpose,
    "scale": scale,
    "crop": crop,
}

COLORS: Mapping[str, Callable[..., Example]] = {
    "color_jitter": color_jitter,
    "brightness_contrast": brightness_contrast,
    "gaussian_noise": gaussian_noise,
    "gaussian_blur": gaussian_blur,
    "rand_augment": rand_augment_colors,
}

RECORDS: Mapping[str, Callable[..., Record]] = {"copy_paste": paste_objects}
"""Of a record and another one, before anything is seen of them."""

INSTANCE_AUGMENTATIONS: Mapping[str, Callable[..., Any]] = {
    **PLACES,
    **COLORS,
    **RECORDS,
}


def check(augment: Augmentations) -> None:
    """Raises UserError for a name, an argument or a value that cannot work."""
    check_names(augment, INSTANCE_AUGMENTATIONS)
    image = {"image": np.zeros((4, 4, 3), np.float32)}
    empty = {**image, "masks": (), "crowd": np.zeros(0, bool)}
    for name, arguments in augment:
        if name not in INSTANCE_AUGMENTATIONS:  # it may want larger images
            continue
        tried: Any = whole((4, 4)) if name in PLACES else image
        if name in RECORDS:
            tried = (empty, empty.copy)
        try:
            INSTANCE_AUGMENTATIONS[name](tried, np.random.default_rng(0), **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"config.pipeline.augment: '{name}' cannot run: {error}."
            ) from error


def combine(
    augment: Augmentations,
    record: Record,
    read_other: Callable[[], Record],
    rng: np.random.Generator,
) -> Record:
    """Puts what augmentations take from another record into a record."""
    for name, arguments in augment:
        if name in RECORDS:
            record = RECORDS[name]((record, read_other), rng, **arguments)
    return record


def sample(
    augment: Augmentations, size: tuple[int, int], rng: np.random.Generator
) -> View:
    """Samples the view of an image of a size `(height, width)`, pixels."""
    view = whole(size)
    for name, arguments in sorted(augment, key=lambda step: step[0] != "transpose"):
        if name in PLACES:
            view = PLACES[name](view, rng, **arguments)
    return view


def color(
    augment: Augmentations, image: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Changes the colours of an image `[H, W, 3]` float32 in [0, 1]; stays in [0, 1]."""
    example: Example = {"image": image}
    for name, arguments in augment:
        if name in COLORS:
            example = COLORS[name](example, rng, **arguments)
        elif name not in INSTANCE_AUGMENTATIONS:
            example = apply_outside(name, arguments, example, rng)
    changed = example["image"]
    return image if changed is image else np.clip(changed, 0, 1).astype(np.float32)
