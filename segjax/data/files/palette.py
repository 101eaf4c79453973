"""Colours that stand for classes: PASCAL VOC's table, and labels that are coloured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

Color = tuple[int, int, int]


def voc_colors(count: int) -> tuple[Color, ...]:
    """Returns the first colours of PASCAL VOC's table, one for each class id.

    Bits 0, 3 and 6 of an id are the highest bits of red, bits 1, 4 and 7 those of green,
    bits 2 and 5 those of blue (`VOClabelcolormap` of VOC's development kit).

    Args:
      count: at most 256.

    Returns:
      (red, green, blue) of the ids 0 to `count - 1`.

    Example:
      >>> voc_colors(4)
      ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
      >>> voc_colors(256)[255]
      (224, 224, 192)
    """
    if not 0 <= count <= 256:
        raise ValueError(f"count must be from 0 to 256, got {count}")
    return tuple(_voc_color(class_id) for class_id in range(count))


def ids_of_colors(
    image: np.ndarray,
    colors: Sequence[Color],
    *,
    ignored: Sequence[Color] = (),
    where: str = "label",
) -> np.ndarray:
    """Turns a label that is painted in the colours of its classes into class ids.

    Args:
      image: RGB `[H, W, 3]` uint8.
      colors: colour of each class; the position is the class id.
      ignored: colours of pixels that do not count.
      where: what to call it in an error.

    Returns:
      Class ids `[H, W]` uint8, `IGNORE_LABEL` where a pixel does not count.

    Raises:
      UserError: a colour that belongs to no class; the commonest one is named.

    Example:
      >>> painted = np.array([[[128, 0, 0], [224, 224, 192]]], np.uint8)
      >>> ids_of_colors(painted, voc_colors(21), ignored=[(224, 224, 192)]).tolist()
      [[1, 255]]
    """
    codes = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    ids = np.full(codes.shape, -1, np.int16)
    targets = [*enumerate(colors), *((IGNORE_LABEL, color) for color in ignored)]
    for class_id, (red, green, blue) in targets:
        ids[codes == (red << 16) + (green << 8) + blue] = class_id
    if (ids < 0).any():
        unknown, counts = np.unique(codes[ids < 0], return_counts=True)
        code = int(unknown[counts.argmax()])
        color = (code >> 16, code >> 8 & 255, code & 255)
        raise UserError(
            f"{where} has the colour {color} in {counts.max()} pixels, which belongs to "
            "no class. Save it without smoothing and without JPEG, or name its colour."
        )
    return ids.astype(np.uint8)


def require_palette(
    path: Path, label: np.ndarray, palette: np.ndarray, colors: Sequence[Color]
) -> None:
    """Checks that the values of a palette picture are class ids.

    An editor that saves a palette picture anew counts its colours in an order of its
    own; values then look like class ids and are others. Colours of no class at all are
    let pass: a palette of one's own taste is not a mistake.

    Args:
      path: the file, for the message.
      label: values `[H, W]`.
      palette: colours of the values in the file, `[n, 3]`.
      colors: colours of all values, as they should be.

    Raises:
      UserError: a value that occurs has the colour of another class.
    """
    meaning = {color: value for value, color in reversed([*enumerate(colors)])}
    for value in np.unique(label).tolist():
        if value >= len(palette):
            continue
        red, green, blue = found = tuple(palette[value].tolist())
        meant = meaning.get((red, green, blue), value)
        if meant != value:
            raise UserError(
                f"{path} is a palette picture whose values are not class ids: value "
                f"{value} has the colour {found}, which is that of class id {meant}. Save "
                "it with the palette of the data set, or as grey PNG with one class id "
                "per pixel."
            )


def _voc_color(class_id: int) -> Color:
    red = green = blue = 0
    for place in range(7, -1, -1):
        red |= (class_id & 1) << place
        green |= (class_id >> 1 & 1) << place
        blue |= (class_id >> 2 & 1) << place
        class_id >>= 3
    return red, green, blue
