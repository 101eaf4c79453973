"""How an image lies in its bucket: which pixel of the one is which of the other.

A bucket is a size `(height, width)` that the network is compiled for. An image is resized to
it, keeping its proportions, cut where it is larger, and padded below and at the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segjax.data.augment import warp
from segjax.data.augment.crops import magnified, sample_start
from segjax.data.augment.views import View
from segjax.types import is_integer

Bucket = tuple[int, int]
"""`(height, width)` that images are padded to."""

RESIZES = ("fit", "shrink", "keep")
"""How an image meets its bucket: magnified or shrunk until it just fits; shrunk where it
does not fit; as it is, a random part of what is larger."""


@dataclass(frozen=True)
class Frame:
    """Where the pixels of an example lie in its record.

    Attributes:
      view: what is seen.
      origin: `(y, x)` of the example's corner in the (transposed) image, before the
        flips, pixels of the image.
      step: pixels of the image for one of the example, along both axes.
      size: `(height, width)` of the example, without padding.
    """

    view: View
    origin: tuple[float, float]
    step: tuple[float, float]
    size: tuple[int, int]

    def read(self, image: np.ndarray) -> np.ndarray:
        """Resamples an image `[H, W, C]` bilinearly, as float32 of the same values."""
        image = image.swapaxes(0, 1) if self.view.transposed else image
        y, x = (self.centers(axis) for axis in (0, 1))
        if self.step == (1.0, 1.0) and all(o == int(o) for o in self.origin):
            return image[np.ix_(y.astype(np.intp), x.astype(np.intp))].astype(
                np.float32
            )
        return warp.between_rows_and_columns(image, y, x)

    def centers(self, axis: int) -> np.ndarray:
        """Coordinates of the example's pixels, 0 being the centre of the image's first."""
        at = np.arange(self.size[axis]) + 0.5
        if self.view.flipped[axis]:
            at = at[::-1]
        found = self.origin[axis] + at * self.step[axis] - 0.5
        return found.astype(np.float32)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Moves points `[..., 2]`, `(y, x)` of the image, to the example; not clipped."""
        points = points[..., ::-1] if self.view.transposed else points
        placed = (points - self.origin) / np.asarray(self.step)
        return np.where(self.view.flipped, self.size - placed, placed)

    def place_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Moves boxes `[N, 4]` of the image to the example; not clipped."""
        corners = self.place(np.reshape(boxes, (-1, 2, 2)).astype(np.float64))
        ordered = np.concatenate([corners.min(1), corners.max(1)], axis=-1)
        return ordered.reshape(-1, 4)

    def unplace_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Moves boxes `[N, 4]` of the example to the (not transposed) image."""
        corners = np.reshape(boxes, (-1, 2, 2)).astype(np.float64)
        corners = np.where(self.view.flipped, self.size - corners, corners)
        corners = corners * self.step + self.origin
        corners = corners[..., ::-1] if self.view.transposed else corners
        return np.concatenate([corners.min(1), corners.max(1)], axis=-1).reshape(-1, 4)


def fit_to_bucket(
    view: View, bucket: Bucket, resize: str, rng: np.random.Generator | None
) -> Frame:
    """Fits a view into a bucket.

    Args:
      view: what is seen of the image.
      bucket: `(height, width)`.
      resize: one of `RESIZES`.
      rng: chooses the part of what is larger than the bucket; None takes the first.

    Returns:
      The frame; its size is at most that of the bucket.
    """
    seen = (view.height, view.width)
    factor = _factor(seen, bucket, resize) * view.zoom
    canvas = magnified(seen, factor)
    # A factor that fits exactly must not lose a pixel to rounding.
    if view.zoom == 1.0 and resize != "keep":
        canvas = (min(canvas[0], bucket[0]), min(canvas[1], bucket[1]))
    size = (min(canvas[0], bucket[0]), min(canvas[1], bucket[1]))
    step = (seen[0] / canvas[0], seen[1] / canvas[1])
    start = [
        0 if rng is None else sample_start(rng, whole, part)
        for whole, part in zip(canvas, size, strict=True)
    ]
    origin = (view.top + start[0] * step[0], view.left + start[1] * step[1])
    return Frame(view, origin, step, size)


def bucket_of(size: tuple[int, int], buckets: Sequence[Bucket], resize: str) -> int:
    """Chooses the bucket in which an image loses least.

    "fit" takes the one in which it is largest, and of equals the smallest one. The
    others take the smallest one that holds it; where none does, "shrink" the one in
    which it is largest, "keep" the one that shows most of it.

    Args:
      size: `(height, width)` of the image.
      buckets: to choose from; of equals, the first.
      resize: one of `RESIZES`.

    Returns:
      Its position in `buckets`.

    Example:
      >>> bucket_of((480, 640), [(800, 800), (800, 1088), (1088, 800)], "fit")
      1
    """

    def area(i: int) -> int:
        return buckets[i][0] * buckets[i][1]

    def shown(i: int) -> int:
        return min(size[0], buckets[i][0]) * min(size[1], buckets[i][1])

    places = range(len(buckets))
    factors = [_factor(size, bucket, "fit") for bucket in buckets]
    holding = [i for i in places if factors[i] >= 1]
    if resize != "fit" and holding:
        return min(holding, key=area)
    if resize == "keep":
        return max(places, key=shown)
    return min(places, key=lambda i: (-factors[i], area(i)))


def check_buckets(buckets: Sequence[Bucket], resize: str) -> tuple[Bucket, ...]:
    """Returns the buckets as tuples.

    Raises:
      ValueError: when there is none, or one is not a pair of integers, or `resize` is
        no name of `RESIZES`.
    """
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
    found = []
    for bucket in buckets:
        sides = tuple(bucket) if isinstance(bucket, Sequence) else ()
        if len(sides) != 2 or not all(map(is_integer, sides)) or min(sides) < 1:
            raise ValueError(
                f"buckets must be pairs (height, width) of whole pixels, got {bucket!r}"
            )
        found.append((sides[0], sides[1]))
    if not found or len(set(found)) != len(found):
        raise ValueError(f"buckets must be different sizes, got {list(buckets)!r}")
    return tuple(found)


def _factor(size: tuple[int, int], bucket: Bucket, resize: str) -> float:
    if resize == "keep":
        return 1.0
    factor = min(bucket[0] / size[0], bucket[1] / size[1])
    return min(factor, 1.0) if resize == "shrink" else factor
