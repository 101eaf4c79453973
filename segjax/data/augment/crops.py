"""Which part of a record an example shows: magnified, turned and cropped at random.

Scale and rotation are those of the whole image, as in DeepLab and PSPNet, and the crop is
taken from the result, which is never made: a `View` reads the cropped pixels alone, once,
whatever is combined.

Sources: Chen et al. 2016, arXiv 1606.00915 (scales 0.5, 0.75, 1, 1.25, 1.5); Chen et al.
2017, arXiv 1706.05587, appendix A (scales 0.5 to 2, crop); Zhao et al. 2017, arXiv
1612.01105, section 5.1 (scales 0.5 to 2, rotation of -10 to 10 degrees).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.data.augment import warp
from segjax.data.augment.arguments import (
    ANGLES,
    FACTORS,
    integer,
    interval,
    number,
    several,
)
from segjax.types import IGNORE_LABEL, Example

LARGEST_SIDE = 1 << 16
"""Of a crop, in pixels."""


@dataclass(frozen=True)
class View:
    """An image, magnified and flipped its centre, read window by window.

    Attributes:
      shape: `(height, width)` of the image.
      canvas: the same of the magnified one.
      angle: by which it is turned within the canvas, radians, anticlockwise.
      mirrored: whether what lies outside the canvas is mirrored, or does not count.
    """

    shape: tuple[int, int]
    canvas: tuple[int, int]
    angle: float = 0.0
    mirrored: bool = True

    def read(
        self, arrays: Mapping[str, Any], rows: np.ndarray, columns: np.ndarray
    ) -> tuple[Example, np.ndarray | None]:
        """Reads a window.

        The image is interpolated bilinearly between the centres of pixels, everything
        else is taken from the nearest one. Where neither scale nor angle changes, pixels
        are copied and types kept.

        Args:
          arrays: `image` `[H, W, C]`, and others `[H, W]`: arrays, or what gives one when
            sliced (`segjax.data.dataset.LazyPage`). One slice is taken of each, which holds
            the pixels that are needed.
          rows: rows of the canvas, also outside of it, `[h]` integer.
          columns: columns likewise, `[w]`.

        Returns:
          The window; and where it shows no part of the image, `[h, w]` bool, None where
          it does everywhere. There the label is `IGNORE_LABEL`, the weight 0, and
          the image holds values of the border.
        """
        at = [
            self._folded(i, n)
            for i, n in zip((rows, columns), self.canvas, strict=True)
        ]
        if self.angle:
            example, outside = self._turned(arrays, *at)
        elif self.canvas != self.shape:
            example, outside = self._magnified(arrays, *at), None
        else:
            window, (y, x) = self._around(*at)
            parts = {key: values[window] for key, values in arrays.items()}
            example = {key: warp.picked(part, y, x) for key, part in parts.items()}
            outside = None
        if not self.mirrored:
            missing = np.logical_or.outer(
                *(i != j for i, j in zip(at, (rows, columns), strict=True))
            )
            outside = missing if outside is None else missing | outside
        if outside is None or not outside.any():
            return example, None
        for key, value in (("label", IGNORE_LABEL), ("weight", 0)):
            if key in example:
                example[key][outside] = value
        return example, outside

    def place_of(self, row: int, column: int) -> tuple[float, float]:
        """Row and column of the canvas where a pixel of the image is shown."""
        y, x = (i - (n - 1) / 2 for i, n in zip((row, column), self.shape, strict=True))
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turned = (cosine * y - sine * x, sine * y + cosine * x)
        down, right = (
            (offset / length + 0.5) * side - 0.5
            for offset, length, side in zip(
                turned, self.shape, self.canvas, strict=True
            )
        )
        return down, right

    def whole(self, arrays: Mapping[str, np.ndarray]) -> Example:
        """Reads all of the canvas; the image is 0 where it has no pixels."""
        example, outside = self.read(arrays, *map(np.arange, self.canvas))
        if outside is not None:
            example["image"][outside] = 0
        return example

    def _folded(self, at: np.ndarray, length: int) -> np.ndarray:
        if self.mirrored:
            return warp.mirror(at, length)
        return np.clip(at, 0, length - 1)

    def _source(self, at: np.ndarray, axis: int) -> np.ndarray:
        """Pixels of the canvas to coordinates of the image: 0 is the first's centre."""
        ratio = self.shape[axis] / self.canvas[axis]
        return ((at + 0.5) * ratio - 0.5).astype(np.float32)

    def _around(
        self, y: np.ndarray, x: np.ndarray
    ) -> tuple[tuple[slice, slice], list[np.ndarray]]:
        """The window of the image that holds coordinates and the pixels beside them.

        Returns:
          The window, of at least two rows and columns where there are two; and the same
          coordinates within it, exactly: a float32 less an integer below it is a float32.
        """
        spans, inside = [], []
        for at, length in zip((y, x), self.shape, strict=True):
            first = int(np.clip(at.min(), 0, max(length - 2, 0)))
            last = int(np.clip(at.max(), 0, length - 1))
            spans.append(slice(first, min(last + 2, length)))
            inside.append(at - at.dtype.type(first))
        return (spans[0], spans[1]), inside

    def _magnified(
        self, arrays: Mapping[str, Any], rows: np.ndarray, columns: np.ndarray
    ) -> Example:
        window, (y, x) = self._around(self._source(rows, 0), self._source(columns, 1))
        parts = {key: values[window] for key, values in arrays.items()}
        nearest = [
            _nearest(at, part.stop - part.start)
            for at, part in zip((y, x), window, strict=True)
        ]
        return {
            key: warp.between_rows_and_columns(part, y, x)
            if key == "image"
            else warp.picked(part, *nearest)
            for key, part in parts.items()
        }

    def _turned(
        self, arrays: Mapping[str, Any], rows: np.ndarray, columns: np.ndarray
    ) -> tuple[Example, np.ndarray]:
        center = [np.float32((n - 1) / 2) for n in self.shape]
        down = (self._source(rows, 0) - center[0])[:, None]
        right = self._source(columns, 1) - center[1]
        cosine, sine = (
            np.float32(math.cos(self.angle)),
            np.float32(math.sin(self.angle)),
        )
        y = cosine * down + sine * right + center[0]
        x = cosine * right - sine * down + center[1]
        height, width = self.shape
        outside = (y < -0.5) | (y > height - 0.5) | (x < -0.5) | (x > width - 0.5)
        window, (y, x) = self._around(
            np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        )
        parts = {key: values[window] for key, values in arrays.items()}
        height, width = (part.stop - part.start for part in window)
        nearest = _nearest(y, height) * width + _nearest(x, width)
        example = {
            key: warp.bilinear(_as_float(part), y, x)
            if key == "image"
            else part.ravel().take(nearest)
            for key, part in parts.items()
        }
        return example, outside


@dataclass(frozen=True)
class Framing:
    """How the views of records are sampled.

    Attributes:
      scale: arguments of `random_scale`, None for none.
      rotation: arguments of `random_rotation`, None for none.
      mirrored: whether a crop that reaches beyond the image is mirrored there.
    """

    scale: Mapping[str, Any] | None = None
    rotation: Mapping[str, Any] | None = None
    mirrored: bool = True

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> View:
        """Samples the view of an image of a size `(height, width)`, pixels."""
        zoom = 1.0 if self.scale is None else sample_scale(rng, **self.scale)
        angle = 0.0 if self.rotation is None else sample_angle(rng, **self.rotation)
        return View(shape, magnified(shape, zoom), angle, self.mirrored)


def random_scale(
    example: Example,
    rng: np.random.Generator,
    *,
    scale: Sequence[float] = (0.5, 2.0),
    steps: Sequence[float] = (),
) -> Example:
    """Magnifies an example by a random factor; its size changes.

    Args:
      example: the example.
      rng: source of randomness.
      scale: range of the factor, sampled uniformly.
      steps: the factors themselves, where only some are wanted; `scale` then means
        nothing.

    Returns:
      The whole example, `round(factor * side)` pixels along each side.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    shape = _shape(example)
    zoom = sample_scale(rng, scale=scale, steps=steps)
    return View(shape, magnified(shape, zoom)).whole(example)


def random_rotation(
    example: Example,
    rng: np.random.Generator,
    *,
    angle: Sequence[float] = (-10.0, 10.0),
    probability: float = 0.5,
) -> Example:
    """Turns an example about its centre; what was outside does not count.

    Args:
      example: the example.
      rng: source of randomness.
      angle: range of the angle, sampled uniformly, degrees; positive is anticlockwise.
      probability: how often it is turned at all.

    Returns:
      An example of the same size. In its corners the image is 0 (the mean colour, where
      the normalisation subtracts one), the label `IGNORE_LABEL`, the weight 0.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
    """
    shape = _shape(example)
    turned = sample_angle(rng, angle=angle, probability=probability)
    return View(shape, shape, turned, mirrored=False).whole(example)


def random_crop(
    example: Example,
    rng: np.random.Generator,
    *,
    size: Sequence[int] | None = None,
) -> Example:
    """Cuts a window out of an example at a random place.

    An example that is smaller than the window comes whole, at a random place in it.

    Args:
      example: the example.
      rng: source of randomness.
      size: `(height, width)` of the window, pixels; None leaves the example as it is.
        In a configuration it is left out, being `pipeline.input_size`.

    Returns:
      An example of that size. Around a smaller one the image is 0 (the mean colour,
      where the normalisation subtracts one), the label `IGNORE_LABEL`, the weight 0.

    Raises:
      ValueError: when `size` is not `(height, width)`.
    """
    if size is None:
        return example
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}")
    wanted = [integer("size", side, 1, LARGEST_SIDE) for side in size]
    shape = _shape(example)
    rows, columns = (
        sample_start(rng, length, side) + np.arange(side)
        for length, side in zip(shape, wanted, strict=True)
    )
    out, outside = View(shape, shape, mirrored=False).read(example, rows, columns)
    if outside is not None:
        out["image"][outside] = 0
    return out


def sample_scale(
    rng: np.random.Generator,
    *,
    scale: Sequence[float] = (0.5, 2.0),
    steps: Sequence[float] = (),
) -> float:
    """Samples the factor of `random_scale`."""
    low, high = interval("scale", scale, *FACTORS)
    factors = several("steps", steps, *FACTORS)
    if factors:
        return factors[int(rng.integers(len(factors)))]
    return float(rng.uniform(low, high))


def sample_angle(
    rng: np.random.Generator,
    *,
    angle: Sequence[float] = (-10.0, 10.0),
    probability: float = 0.5,
) -> float:
    """Samples the angle of `random_rotation`, radians."""
    low, high = interval("angle", angle, *ANGLES)
    turned = rng.random() < number("probability", probability, 0, 1)
    return math.radians(rng.uniform(low, high)) if turned else 0.0


def sample_start(rng: np.random.Generator, length: int, side: int) -> int:
    """Samples where a window of `side` pixels starts on an axis of `length` pixels.

    The shorter of the two lies within the longer one.
    """
    low, high = sorted((0, length - side))
    return int(rng.integers(low, high + 1))


def centered_start(center: float, length: int, side: int) -> int:
    """Where a window of `side` pixels starts on an axis to have a place in its middle.

    It is moved as little as it must be for the shorter of the two to lie within the longer
    one.
    """
    low, high = sorted((0, length - side))
    return min(max(round(center - (side - 1) / 2), low), high)


def magnified(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Size of a magnified image, in whole pixels."""
    height, width = (max(1, round(zoom * side)) for side in shape)
    return height, width


def _shape(example: Example) -> tuple[int, int]:
    height, width = example["image"].shape[:2]
    return height, width


def _nearest(at: np.ndarray, length: int) -> np.ndarray:
    return np.clip(np.floor(at + np.float32(0.5)).astype(np.intp), 0, length - 1)


def _as_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32, copy=False)
