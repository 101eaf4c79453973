"""Predicting as the papers test: scales, mirror images, and crops that overlap.

`segjax.predict.tiled` gives exactly what one pass over the whole image gives. This
module gives the mean of the class probabilities of several passes, over resized and
mirrored images and over crops that overlap. DeepLab v2 and v3 (Chen et al.,
arXiv 1606.00915, section 4.1; arXiv 1706.05587, section 4.1) resize and mirror, PSPNet
(Zhao et al. 2017, arXiv 1612.01105) also slides a crop by two thirds of its side.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segjax.geometry.input_sizes import Geometry
from segjax.geometry.tiles import plan
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.heads import SOFTMAX, Head
from segjax.predict.scaled import NormalizedImage
from segjax.predict.tiled import Block, check_image
from segjax.types import Array, is_count

_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class TestTimeAugmentation:
    """The passes that are averaged for one image.

    Attributes:
      scales: factors by which the image is resized; its sides are rounded.
      flip: whether each pass is repeated on the mirror image (left and right).
      crop: height and width in pixels of crops of the resized image; None takes it
        whole. Smaller images are filled up with 0, the mean of the normalised image.
      crop_stride: distance of neighbouring crops, as a fraction of their side.
      size: height and width in pixels to which each image is squeezed or stretched first;
        the scales are then of that size. None leaves images as they are.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crop: tuple[int, int] | None = None
    crop_stride: float = 2 / 3
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        if not self.scales or not all(
            isinstance(s, (int, float)) and 0 < s < 16 for s in self.scales
        ):
            raise ValueError(
                f"scales are one or more factors between 0 and 16, got {self.scales!r}"
            )
        for name, sides in (("crop", self.crop), ("size", self.size)):
            if sides is not None and not (
                isinstance(sides, (tuple, list))
                and len(sides) == 2
                and all(map(is_count, sides))
            ):
                raise ValueError(
                    f"{name} is (height, width) in whole pixels, or None, got {sides!r}"
                )
        if not 0 < self.crop_stride <= 1:
            raise ValueError(
                "crop_stride is a fraction of the crop's side, more than 0 and at most 1, "
                f"got {self.crop_stride}"
            )

    @property
    def is_one(self) -> bool:
        """Whether there is one pass, over the whole image as it is."""
        return self == TestTimeAugmentation(crop_stride=self.crop_stride)


class AveragedPredictor:
    """A network whose class probabilities are averaged over several passes.

    It has the methods of `segjax.predict.tiled.Predictor` that evaluation and file
    prediction use. The sum lives on the device; what comes back is the answer.
    """

    def __init__(
        self,
        apply: Callable[[Array], Array],
        geometry: Geometry,
        passes: TestTimeAugmentation,
        *,
        batch_size: int = 1,
        sharding: jax.sharding.Sharding | None = None,
        batch_sharding: jax.sharding.Sharding | None = None,
        head: Head = SOFTMAX,
    ) -> None:
        """Keeps what the predictions need; nothing is compiled yet.

        Args:
          apply: maps images `[B, H, W, C]` float32 to logits `[B, H', W', K]`; see
            `segjax.predict.tiled.Predictor`.
          geometry: of that network.
          passes: what is averaged.
          batch_size: crops in one pass.
          sharding: where images go; the parameters have to be on the same devices.
          batch_sharding: where a batch of crops goes, on those devices.
          head: how logits are read.

        Raises:
          ValueError: if the network does not take crops of that size.
        """
        if passes.crop is not None:
            for axis, side in zip(("height", "width"), passes.crop, strict=True):
                geometry.check_input_side(side, name=f"crop {axis}")
            if geometry.margin:
                raise ValueError(
                    "crop must be None for a network whose output is smaller than its "
                    f"input, got {passes.crop}: it predicts by overlapping tiles anyway"
                )
        partial = isinstance(apply, jax.tree_util.Partial)
        self._apply = apply if partial else jax.tree_util.Partial(apply)
        self.geometry = geometry
        self.passes = passes
        self.batch_size = batch_size
        self.sharding = sharding
        self.batch_sharding = batch_sharding
        self.head = head

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Predicts a stream of images.

        Args:
          images: float32 `[H, W, C]` each, taken one by one; sizes may differ.
          outputs: keys of `segjax.predict.heads.OUTPUTS`; `logits` are those of the mean
            probabilities.

        Yields:
          for each image, in order, an array over its pixels for each output.
        """
        for block in self.blocks(images, outputs):
            yield block.values

    def blocks(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[Block]:
        """Predicts a stream of images, a block for each; see `pages`."""
        flying: collections.deque[tuple[int, tuple[int, int], dict[str, Array]]]
        flying = collections.deque()
        numbers = itertools.count()  # `enumerate` would hold on to the last image.
        for image in images:
            page = next(numbers)
            check_image(image)
            count = len(self.passes.scales)
            answer = _answer(
                self._sum(np.asarray(image)), count, tuple(outputs), self.head
            )
            size = (image.shape[0], image.shape[1])
            flying.append((page, size, answer))
            del image
            if len(flying) > 1:
                yield _fetch(*flying.popleft())
        while flying:
            yield _fetch(*flying.popleft())

    def mean(self, image: Array) -> Array:
        """The mean probabilities `[H, W, K]` of an image `[H, W, C]`; traceable."""
        return self._sum(image) / len(self.passes.scales)

    def _sum(self, image: np.ndarray | Array) -> Array:
        """The probabilities of all passes, added up; `[H, W, K]`."""
        given = jax.device_put(image[None], self.sharding)
        total = None
        for scale in self.passes.scales:
            seen = _resized(given, scale, self.passes.size)
            crop = self.passes.crop
            scaled = self._whole(seen) if crop is None else self._crops(seen, crop)
            total = _add_resized(total, scaled, image.shape[:2])
        assert total is not None
        return total[0]

    def _whole(self, image: Array) -> Array:
        down, across = (plan(self.geometry, side, 0) for side in image.shape[1:3])
        rows, columns = down.source(down.windows[0]), across.source(across.windows[0])
        flipped = (
            image
            if _is_all(rows) and _is_all(columns)
            else image[:, rows][:, :, columns]
        )
        found = self._probabilities(flipped)
        return found[:, : image.shape[1], : image.shape[2]]

    def _probabilities(self, image: Array) -> Array:
        return _probabilities(self._apply, image, self.passes.flip, self.head)

    def _crops(self, image: Array, crop: tuple[int, int]) -> Array:
        height, width = image.shape[1:3]
        frame = [
            (0, max(0, c - side)) for c, side in zip(crop, (height, width), strict=True)
        ]
        image = jnp.pad(image, ((0, 0), *frame, (0, 0)))
        starts = [
            (i, j)
            for i in crop_starts(image.shape[1], crop[0], self.passes.crop_stride)
            for j in crop_starts(image.shape[2], crop[1], self.passes.crop_stride)
        ]
        total, count = None, np.zeros((1, *image.shape[1:3], 1), np.float32)
        for first in range(0, len(starts), self.batch_size):
            places = starts[first : first + self.batch_size]
            filled = places + places[-1:] * (self.batch_size - len(places))
            cut = _cut(image, np.asarray(filled), crop)
            if self.batch_sharding is not None:
                cut = jax.device_put(cut, self.batch_sharding)
            found = self._probabilities(cut)
            if self.sharding is not None:
                found = jax.device_put(found, self.sharding)
            if total is None:
                shape = (1, *image.shape[1:3], found.shape[-1])
                total = jnp.zeros(shape, jnp.float32, device=self.sharding)
            for k, (i, j) in enumerate(places):
                total = _place(total, found[k : k + 1], i, j)
                count[:, i : i + crop[0], j : j + crop[1]] += 1
        assert total is not None
        return (total / count)[:, :height, :width]


def crop_starts(side: int, crop: int, stride: float) -> list[int]:
    """Where crops of one axis begin, such that they cover it.

    Args:
      side: pixels of the image, at least `crop`.
      crop: pixels of a crop.
      stride: distance of two crops as a fraction of `crop`, rounded up to whole pixels;
        the last crop ends with the image.

    Returns:
      first pixels, ascending.

    Example:
      >>> crop_starts(500, 473, 2 / 3), crop_starts(1024, 713, 2 / 3)
      ([0, 27], [0, 311])
    """
    step = int(np.ceil(crop * stride))
    count = 1 + max(0, -(-(side - crop) // step))
    return [min(i * step, side - crop) for i in range(count)]


def _is_all(indices: np.ndarray) -> bool:
    return bool((indices == np.arange(len(indices))).all())


def _resized(image: Array, scale: float, size: tuple[int, int] | None) -> Array:
    """The image `[1, H, W, C]` at another scale, at least one pixel each way."""
    sides = size or image.shape[1:3]
    height, width = (max(1, round(side * scale)) for side in sides)
    return (
        image
        if (height, width) == image.shape[1:3]
        else _resize(image, (height, width))
    )


def _fetch(page: int, sides: tuple[int, int], values: dict[str, Array]) -> Block:
    height, width = sides
    return Block(page, slice(0, height), slice(0, width), jax.device_get(values))


_resize = jax.jit(
    lambda image, size: resize_bilinear(image, size=size), static_argnums=1
)


@jax.jit(static_argnums=(2, 3))
def _probabilities(
    apply: jax.tree_util.Partial, image: Array, flip: bool, head: Head
) -> Array:
    """The probabilities `[B, H, W, K]` of images, their mirror images averaged in."""
    if not flip:
        return head.probabilities(apply(image))
    both = jnp.concatenate([image, jnp.flip(image, _COLUMNS)])
    found = head.probabilities(apply(both))
    straight, mirrored = jnp.split(found, 2)
    return (straight + jnp.flip(mirrored, _COLUMNS)) / 2


@jax.jit(static_argnums=2)
def _add_resized(total: Array | None, part: Array, size: tuple[int, int]) -> Array:
    resized = part if part.shape[1:3] == size else resize_bilinear(part, size=size)
    return resized if total is None else total + resized


@jax.jit(static_argnums=2)
def _cut(image: Array, places: Array, crop: tuple[int, int]) -> Array:
    size = (1, *crop, image.shape[-1])
    cut = lambda place: jax.lax.dynamic_slice(image, (0, *place, 0), size)[0]
    return jax.vmap(cut)(places)


@jax.jit(donate_argnums=0)
def _place(total: Array, part: Array, i: int, j: int) -> Array:
    start = (0, i, j, 0)
    there = jax.lax.dynamic_slice(total, start, part.shape)
    return jax.lax.dynamic_update_slice(total, there + part, start)


@jax.jit(static_argnums=(1, 2, 3))
def _answer(
    total: Array, count: int, outputs: tuple[str, ...], head: Head
) -> dict[str, Array]:
    return head.outputs(head.logits(total / count), outputs)
