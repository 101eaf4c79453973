"""Labels of classes that overlap: a pixel is of any number of them, also of none."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL, class_bits


@dataclass(frozen=True)
class OverlappingClasses(LabelSpec):
    """Classes of which a pixel holds the sum: the first is 1, the second 2, then 4, 8 ...

    So a label is one image, and 0 is a pixel of no class. Seven classes fit into a byte
    without the sum that is `IGNORE_LABEL`.

    Example:
      >>> spec = OverlappingClasses(("cell", "nucleus"), ((255, 0, 0), (0, 0, 255)))
      >>> spec.to_ids(np.array([[0, 1, 3]]), where="a.png")
      array([[0, 1, 3]], dtype=uint8)
      >>> spec.value_names
      ('nothing', 'cell', 'nucleus', 'cell + nucleus')
    """

    most_classes: ClassVar[int] = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.remap:
            raise UserError(
                "remap: classes that overlap are stored as sums of 1, 2, 4 and so on, "
                f"which remap does not know; leave it out, found {self.remap}."
            )

    def to_ids(
        self, raw: np.ndarray, where: str, *, remappable: bool = True
    ) -> np.ndarray:
        """Checks stored sums; see `LabelSpec.to_ids`.

        Args:
          raw: sums as stored, any integer type or bool, `[H, W]`.
          where: what to call the file (and page) in an error.
          remappable: of no meaning here.

        Returns:
          The sums, uint8 `[H, W]`; `IGNORE_LABEL` where a pixel does not count.

        Raises:
          UserError: a value that is no sum of classes, or values that are not integers.
        """
        if raw.dtype.kind not in "biu":
            raise UserError(
                f"{where} holds {raw.dtype} values where sums of classes are expected, "
                "which are integers. Save the labels as 8-bit integers."
            )
        ignored = (
            np.zeros(raw.shape, bool) if self.ignore is None else raw == self.ignore
        )
        largest = 2**self.num_classes - 1
        wrong = ~ignored & ((raw < 0) | (raw > largest))
        if wrong.any():
            raise UserError(
                f"{where} has the value {raw[wrong][0]}; a pixel holds the sum of its "
                f"classes, from 0 to {largest}: {self._listed()}. Save the labels so, or "
                "name all classes in the config."
            )
        return np.where(ignored, IGNORE_LABEL, raw).astype(np.uint8)

    def stored_value(self, class_id: int) -> int | None:
        """The value of a class, or of `IGNORE_LABEL`; None: there is none."""
        if class_id == IGNORE_LABEL:
            return self.ignore
        return class_bits(self.num_classes)[class_id]

    @functools.cached_property
    def value_names(self) -> tuple[str, ...]:
        """What each sum from 0 on stands for."""
        return tuple(
            " + ".join(self._of(self.names, v)) or "nothing" for v in self._sums
        )

    @functools.cached_property
    def value_colors(self) -> tuple[tuple[int, int, int], ...]:
        """The colour of each sum from 0 on: the mean of those of its classes."""
        found = []
        for value in self._sums:
            colors = self._of(self.colors, value) or [(0, 0, 0)]
            red, green, blue = np.mean(colors, axis=0).round().astype(int).tolist()
            found.append((red, green, blue))
        return tuple(found)

    def class_pixels(self, counts: np.ndarray) -> np.ndarray:
        """Pixels of each class `[K]`, of the pixels of each stored sum `[256]`."""
        sums = np.arange(len(counts))
        bits = class_bits(self.num_classes)
        return np.array(
            [counts[(sums & bit > 0) & (sums != IGNORE_LABEL)].sum() for bit in bits]
        )

    def describe(self) -> str:
        """Returns a table of names, colours and values."""
        rows = [
            f"{bit:>5}  {name:<{max(map(len, self.names))}}  {','.join(map(str, color))}"
            for bit, name, color in zip(
                class_bits(self.num_classes), self.names, self.colors, strict=True
            )
        ]
        return "\n".join(["value  class, of which a pixel holds the sum", *rows])

    @property
    def _sums(self) -> range:
        return range(2**self.num_classes)

    def _of(self, things: tuple, value: int) -> list:
        bits = [value & bit for bit in class_bits(self.num_classes)]
        return list(itertools.compress(things, bits))

    def _listed(self) -> str:
        pairs = zip(class_bits(self.num_classes), self.names, strict=True)
        return ", ".join(f"{bit} ({name})" for bit, name in pairs)


def pack(masks: np.ndarray) -> np.ndarray:
    """Makes a label of masks of classes that overlap.

    Args:
      masks: bool `[H, W, K]`, K at most 7.

    Returns:
      The sum of the values of the classes of each pixel, uint8 `[H, W]`.

    Raises:
      ValueError: if there are more than 7 classes, or not three axes.

    Example:
      >>> pack(np.array([[[True, False], [True, True]]]))
      array([[1, 3]], dtype=uint8)
    """
    if masks.ndim != 3 or masks.shape[-1] > OverlappingClasses.most_classes:
        raise ValueError(f"masks must be [H, W, K], K at most 7, got {masks.shape}")
    bits = np.array(class_bits(masks.shape[-1]), np.uint8)
    return np.where(masks, bits, np.uint8(0)).sum(-1, dtype=np.uint8)
