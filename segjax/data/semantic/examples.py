"""One training example out of a record: weighed, cropped, augmented, normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.augment import augmentations as augmentation
from segjax.data.augment.arguments import number
from segjax.data.augment.crops import (
    View,
    centered_start,
    sample_start,
)
from segjax.data.dataset import KeptRecords, parts_of
from segjax.data.intensities import RecordScales
from segjax.data.normalization import ImageNormalization, require_normalization
from segjax.data.semantic.foreground import ForegroundPixels
from segjax.data.semantic.weight_map import BorderWeights
from segjax.errors import UserError
from segjax.types import Example, Record

Size = int | Sequence[int]
"""A side of a square, or `(height, width)`, in pixels."""


class ExampleMaker:
    """Turns a record into an example, at random, from the seed and a position alone.

    Attributes:
      records: labelled images, which stay in memory up to `KEPT_BYTES`.
      seed: of crops and augmentations.
      normalization: method of `segjax.data.files.images.normalize`.
      scales: of the records, by that method.
      input_size: `(height, width)` of what the network sees.
      output_size: the same of what it answers.
      framing: how the part of a record is chosen that is seen.
      colors: the augmentations of colours, before normalisation.
      augment: the other augmentations, with their margins.
      pairs: those that see a second example.
      margin: pixels that the augmentations read around what the network sees.
      foreground_fraction: probability that a crop is centred on a pixel that is not of
        class 0.
      weights: border weights of the records, or None for 1 everywhere.

    Raises:
      ValueError: when sizes do not fit or the normalization does not exist.
      UserError: for an augmentation or argument that does not exist.
    """

    def __init__(
        self,
        records: Sequence[Record],
        seed: int,
        input_size: Size,
        output_size: Size,
        augment: augmentation.Augmentations,
        normalization: ImageNormalization,
        border_weight: Mapping[str, Any] | None,
        foreground_fraction: float = 0.0,
    ) -> None:
        self.seed, self.normalization = seed, normalization
        self.records = records = KeptRecords(records)
        first = parts_of(records[0])["image"][:1, :1]
        channels = first.shape[-1]
        require_normalization(normalization, channels, first.dtype)
        self.scales = RecordScales(records, normalization)
        self.input_size, self.output_size = _pair(input_size), _pair(output_size)
        for i, o in zip(self.input_size, self.output_size, strict=True):
            if o < 1 or i < o or (i - o) % 2:
                raise ValueError(
                    "input_size must exceed output_size by an even number of pixels,"
                    f" got {self.input_size} and {self.output_size}"
                )
        augmentation.check(augment, channels)
        self.framing = augmentation.framing_of(augment)
        self.colors = augmentation.of_colors(augment)
        if self.colors:
            require_normalization("range", dtype=first.dtype)
        self.augment, self.margin = augmentation.with_margins(
            augmentation.of_examples(augment), self.input_size
        )
        self.pairs = augmentation.of_pairs(augment)
        self.foreground_fraction = number(
            "foreground_fraction", foreground_fraction, 0, 1
        )
        self._foreground = ForegroundPixels()
        self.weights = None if border_weight is None else BorderWeights(**border_weight)

    def __call__(self, position: int, record_id: int) -> Example:
        """Makes the example at a position of the stream out of a record."""
        # 1 keeps the stream apart from those that order the records.
        rng = np.random.default_rng((self.seed, 1, position))
        example = self._example(record_id, rng)
        if self.pairs:  # 3 keeps the second example apart, too
            rng = np.random.default_rng((self.seed, 3, position))
            other = int(rng.integers(len(self.records)))
            example = augmentation.combine(
                self.pairs, example, lambda: self._example(other, rng), rng
            )
        return {
            key: x if key == "image" else _center_crop(x, self.output_size)
            for key, x in example.items()
        }

    def _example(self, record_id: int, rng: np.random.Generator) -> Example:
        """An example with its label as large as its image."""
        record = self.records[record_id]
        arrays = {"image": parts_of(record)["image"], "label": _label_of(record)}
        height, width = arrays["label"].shape
        view = self.framing.sample((height, width), rng)
        if self.weights is not None:
            arrays["weight"] = self.weights(record_id, record)
        example, outside = view.read(
            arrays, *self._window(view, record_id, record, rng)
        )
        example["label"] = example["label"].astype(np.int32)
        if self.weights is None:
            example["weight"] = np.ones(example["label"].shape, np.float32)
        example, outside = self._colored(example, outside, arrays["image"], rng)
        example["image"] = self.scales(record_id, record)(example["image"])
        if outside is not None:
            example["image"][outside] = 0
            example["weight"][outside] = 0
        return augmentation.apply(self.augment, example, rng)

    def _colored(
        self,
        example: Example,
        outside: np.ndarray | None,
        stored: Any,
        rng: np.random.Generator,
    ) -> tuple[Example, np.ndarray | None]:
        """Applies what wants colours in [0, 1] to intensities of the type of a stored image.

        Returns:
          The example, and which of its pixels are not of the image, if there are any.
        """
        if not self.colors:
            return example, outside
        largest = np.iinfo(stored[:1, :1].dtype).max
        image = example["image"].astype(np.float32) / np.float32(largest)
        if outside is None:
            outside = np.zeros(image.shape[:2], bool)
        given = {**example, "image": image, "outside": outside}
        colored = augmentation.apply(self.colors, given, rng)
        outside = colored.pop("outside")
        colored["image"] = colored["image"] * np.float32(largest)
        return colored, outside if outside.any() else None

    def _window(
        self, view: View, record_id: int, record: Record, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Rows and columns of a random crop whose answered part lies in the image.

        They may lie outside of it: what the network sees around that part, and what the
        warps read around what the network sees; so may an answered part larger than the
        image.
        """
        pixel = None
        if self.foreground_fraction and rng.random() < self.foreground_fraction:
            pixel = self._foreground(record_id, record, rng)
        if pixel is None:
            starts = [
                sample_start(rng, length, side)
                for length, side in zip(view.canvas, self.output_size, strict=True)
            ]
        else:
            starts = [
                centered_start(*where)
                for where in zip(
                    view.place_of(*pixel), view.canvas, self.output_size, strict=True
                )
            ]
        reaches = []
        sizes = zip(starts, self.input_size, self.output_size, strict=True)
        for first, inner, answered in sizes:
            start = first - (inner - answered) // 2
            reaches.append(np.arange(start - self.margin, start + inner + self.margin))
        return reaches


def _center_crop(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = ((n - s) // 2 for n, s in zip(x.shape[:2], size, strict=True))
    return x[top : top + size[0], left : left + size[1]]


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def record_name(record: Record) -> str:
    """Name of a record as text, whether it is stored as text or bytes."""
    name = record["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _label_of(record: Record) -> Any:
    """The label, to be sliced, of the size of the image."""
    parts = parts_of(record)
    image, label = parts["image"], parts.get("label")
    if label is None:
        raise UserError(
            f"The training record '{record_name(record)}' has no label; train on a"
            " split that is labelled."
        )
    if label.shape != image.shape[:2]:
        raise UserError(
            f"The training record '{record_name(record)}' has an image of"
            f" {image.shape[:2]} and a label of {label.shape} pixels; they must be equal."
        )
    return label
