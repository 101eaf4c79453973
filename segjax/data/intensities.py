"""The intensities of a training split, counted once, when a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segjax.data.dataset import LazyPage, parts_of
from segjax.data.normalization import (
    PAGE_PIXELS,
    ImageNormalization,
    Intensities,
    Normalize,
    Percentiles,
    sampled,
    scale_of,
)
from segjax.types import Record

COUNTED_IMAGES = 256
"""Of a larger split, as many images are counted, evenly spread."""

DIMMEST = 10.0
"""Percentile of the training images' spreads that is the floor: a tenth of them is dimmer."""


@dataclass(frozen=True)
class Several:
    """The methods of several networks: what they make of an image, one after the other.

    Attributes:
      methods: of `normalize`.
      scales: those that the pages of a stack have in common; None for each page its own.
    """

    methods: tuple[ImageNormalization, ...]
    scales: tuple[Normalize | None, ...] = ()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Brings an image `[H, W, C]` to `[H, W, C * len(methods)]`."""
        fixed = scale_of_image(image, self)
        assert isinstance(fixed, Several)
        return np.concatenate([scale(image) for scale in fixed.scales if scale], -1)


class RecordScales:
    """The scale of each record of a split; an image is measured once, when it is used first.

    Where percentiles are taken over stacks, they are those of the pages of a file that are in
    the split. Its first page that is used has the others read, too.
    """

    def __init__(self, records: Sequence[Record], method: ImageNormalization) -> None:
        """Takes the records, of which pages name their file as `stack`, and the method."""
        self._records, self._method = records, method
        self._found: dict[int | str, Normalize] = {}

    def __call__(self, index: int, record: Record) -> Normalize:
        """Returns the scale of a record, which was read from its place in the split."""
        stack = record.get("stack")
        if stack and stack not in self._found:
            pages = self._pages(index, stack)
            if (scale := scale_of_stack(pages, self._method)) is not None:
                self._found[stack] = scale
        if stack in self._found:
            return self._found[stack]
        if index not in self._found:
            self._found[index] = scale_of(self._measured(record), self._method)
        return self._found[index]

    def _measured(self, record: Record) -> np.ndarray:
        """The pixels that the method wants to see; of a page in windows no more than those."""
        image = parts_of(record)["image"]
        if isinstance(image, LazyPage) and not _looks_at_pixels(self._method):
            return image[:1, :1]
        return record["image"]

    def _pages(self, index: int, stack: str) -> Iterator[np.ndarray]:
        """Reads the pages of a file, which lie side by side in a split."""
        before = range(index - 1, -1, -1)
        for places in (before, range(index, len(self._records))):
            for i in places:
                record = self._records[i]
                if record.get("stack") != stack:
                    break
                yield record["image"]


def _looks_at_pixels(method: ImageNormalization) -> bool:
    """Whether the scale of an image depends on what it shows, beside its type."""
    if isinstance(method, Percentiles):
        return method.over != "dataset" or method.learned is None
    return method in ("per_image", "percentiles")


def scale_of_image(image: np.ndarray, method: ImageNormalization) -> Normalize:
    """Returns what `normalize` does to every pixel of an image, by all of its pixels.

    Args:
      image: `[H, W, C]`.
      method: one of `NORMALIZATIONS`, a `Percentiles`, or `Several` of them.

    Returns:
      The scale, which can be applied to any part of the image.

    Raises:
      ValueError: as `normalize`.
      UserError: likewise.
    """
    if not isinstance(method, Several):
        return scale_of(image, method)
    known = method.scales or (None,) * len(method.methods)
    scales = tuple(
        scale or scale_of(image, each)
        for scale, each in zip(known, method.methods, strict=True)
    )
    return replace(method, scales=scales)


def scale_of_stack(
    pages: Iterable[np.ndarray], method: ImageNormalization
) -> Normalize | None:
    """Returns the scale that all pages of a stack have in common.

    Args:
      pages: `[H, W, C]` each; read only where there is such a scale.
      method: one of `NORMALIZATIONS`, or a `Percentiles`.

    Returns:
      The scale; None where each page has its own, which is `scale_of`.

    Raises:
      ValueError: as `normalize`.
      UserError: likewise.

    Example:
      >>> pages = [np.array([[[0]]], np.uint8), np.array([[[200]]], np.uint8)]
      >>> scale_of_stack(pages, Percentiles(0, 100, over="stack"))(pages[1]).item()
      1.0
      >>> scale_of_stack(pages, "per_image") is None
      True
    """
    if isinstance(method, Several):
        if not any(getattr(each, "over", "") == "stack" for each in method.methods):
            return None
        kept = list(pages)
        scales = tuple(scale_of_stack(kept, each) for each in method.methods)
        return replace(method, scales=scales)
    if not isinstance(method, Percentiles) or method.over != "stack":
        return None
    return method.scale_of_stack(pages)


def count_intensities(records: Sequence[Record], method: Percentiles) -> Intensities:
    """Counts what a normalisation by percentiles learns from the training images.

    The spread of an image is the difference between its two percentiles. The floor is
    that of which a tenth of the images stay below: one of them may be empty, so the
    smallest says nothing. Images are read once each.

    Args:
      records: of the training split, at least one.
      method: whose percentiles are meant.

    Returns:
      The numbers, the same ones for the same records.

    Example:
      >>> images = [np.array([[[0], [n]]], np.uint8) for n in (10, 20, 200)]
      >>> records = [{"image": image} for image in images]
      >>> count_intensities(records, Percentiles(0, 100))
      Intensities(spread=(12.0,), low=(0.0,), high=(200.0,))
    """
    places = np.linspace(0, len(records) - 1, min(len(records), COUNTED_IMAGES))
    spreads, pixels = [], []
    for i in places.round():
        image = records[int(i)]["image"]
        low, high = method.bounds(sampled(image))
        spreads.append(high - low)
        pixels.append(sampled(image, PAGE_PIXELS))
    pooled = np.percentile(np.concatenate(pixels), (method.low, method.high), axis=0)
    spread, low, high = (
        tuple(np.asarray(x, float).tolist())
        for x in (np.percentile(spreads, DIMMEST, axis=0), *pooled)
    )
    return Intensities(spread, low, high)
