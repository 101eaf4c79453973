"""What stored values of the user's labels mean: classes, numbers of objects, or colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segjax.data.files.palette import ids_of_colors
from segjax.data.instance_labels import InstanceLabels
from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.types import is_count

LABELS = ("classes", "instances", "instances_with_border", "colors", "overlapping")
"""What label files hold: class ids, numbers of objects, or colours of the classes, or sums of them."""


class Meaning(Protocol):
    """What stored values mean: a `LabelSpec`, `InstanceLabels`, or `ColorLabels`."""

    def to_ids(self, raw: np.ndarray, where: str) -> np.ndarray:
        """Turns stored values into class ids, uint8 `[H, W]`."""
        ...


@dataclass(frozen=True)
class ColorLabels:
    """Makes classes of pixels out of the colours that they are painted in.

    Attributes:
      spec: names and colours of the classes.
      ignored: colours of pixels that do not count.

    Example:
      >>> spec = LabelSpec(("sky", "tree"), ((0, 0, 255), (0, 99, 0)))
      >>> painted = np.array([[[0, 99, 0], [0, 0, 255]]], np.uint8)
      >>> ColorLabels(spec).to_ids(painted, "a.png").tolist()
      [[1, 0]]
    """

    spec: LabelSpec
    ignored: tuple[tuple[int, int, int], ...] = ()

    def to_ids(self, raw: np.ndarray, where: str) -> np.ndarray:
        """Turns colours `[H, W, 3]` into class ids, uint8 `[H, W]`.

        Raises:
          UserError: a colour is that of no class; `where` names the file and page.
        """
        return ids_of_colors(raw, self.spec.colors, ignored=self.ignored, where=where)


def spec_of(
    classes: Sequence[tuple[str, Sequence[int]]],
    ignore: int | None,
    remap: Sequence[tuple[int, int]],
) -> LabelSpec:
    """The meaning of class ids, as a config says it; see `folder`.

    Raises:
      UserError: a class, or a pair of `remap`, is not as it must be.
    """
    try:
        names = tuple(str(name) for name, _ in classes)
        colors = tuple((int(r), int(g), int(b)) for _, (r, g, b) in classes)
        pairs = tuple((int(value), int(class_id)) for value, class_id in remap)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config.data.classes is {classes!r} and remap {remap!r}; give pairs (name, "
            '(red, green, blue)), as in ("cell", (255, 255, 255)), and pairs (stored '
            "value, class id), as in (255, 1)."
        ) from error
    return LabelSpec(names, colors, ignore, pairs)


def meaning_of(
    spec: LabelSpec,
    labels: str,
    border_width: int,
    ignored_colors: Sequence[Sequence[int]],
) -> Meaning:
    """What turns stored values into class ids, as a config says it; see `folder`.

    Args:
      spec: the classes.
      labels: one of `LABELS`.
      border_width: of the outline, pixels.
      ignored_colors: those of pixels that do not count.

    Returns:
      `spec`, or what makes its classes out of numbers or colours.

    Raises:
      UserError: the classes do not fit `labels`, or a value is not possible.
    """
    if labels not in LABELS:
        raise UserError(
            f"config.data.labels is {labels!r}; use one of {', '.join(LABELS)}."
        )
    if labels == "classes":
        return spec
    if labels == "overlapping":
        return OverlappingClasses(spec.names, spec.colors, spec.ignore, spec.remap)
    if labels == "colors":
        return _color_labels(spec, ignored_colors)
    names = ["background", "object", "border"][: LABELS.index(labels) + 1]
    if spec.num_classes != len(names):
        raise UserError(
            f"config.data.labels is {labels!r}, which makes {len(names)} classes, but "
            f"config.data.classes has {spec.num_classes}: name {', '.join(names)}."
        )
    if not is_count(border_width):
        raise UserError(
            f"config.data.border_width is an integer of at least 1, got {border_width!r}."
        )
    return InstanceLabels(spec, border_width if labels == LABELS[2] else 0)


def _color_labels(
    spec: LabelSpec, ignored_colors: Sequence[Sequence[int]]
) -> ColorLabels:
    try:
        ignored = tuple((int(r), int(g), int(b)) for r, g, b in ignored_colors)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config.data.ignored_colors is {ignored_colors!r}; give (red, green, blue) of "
            "each, as in ((255, 255, 255),)."
        ) from error
    if len({*spec.colors, *ignored}) < spec.num_classes + len(ignored):
        raise UserError(
            'config.data.labels is "colors", but two of config.data.classes and '
            "ignored_colors have one colour. Give each its own."
        )
    return ColorLabels(spec, ignored)
