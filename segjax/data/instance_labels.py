"""Labels that number the objects, for networks that label pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError

NUMBER_THEM = "Number the objects, for example with scipy.ndimage.label"

BACKGROUND, OBJECT, BORDER = range(3)
"""Class ids that `InstanceLabels` gives."""


@dataclass(frozen=True)
class InstanceLabels:
    """Makes classes of pixels out of the numbers of objects.

    Without a border there are two classes, background and object. With one, the third is
    the outline of each object, inside of it, so that touching objects are told apart by
    what a network sees of the border (Caicedo et al. 2019, Cytometry A 95(9), 952-965).

    Attributes:
      spec: two classes, or three with a border.
      border_width: of the outline, pixels; 0: no border.

    Example:
      >>> spec = LabelSpec(("background", "cell", "border"), ((0, 0, 0),) * 3)
      >>> numbers = np.array([[7, 7, 7, 9, 9, 9, 0]])
      >>> InstanceLabels(spec, border_width=1).to_ids(numbers, "a.png").tolist()
      [[1, 1, 2, 2, 1, 2, 0]]
    """

    spec: LabelSpec
    border_width: int = 0

    def to_ids(self, raw: np.ndarray, where: str) -> np.ndarray:
        """Turns numbers of objects `[H, W]` into class ids, uint8 `[H, W]`.

        Raises:
          UserError: the label holds something else; `where` names the file and page.
        """
        require_numbers(raw, where)
        label = np.where(raw > 0, OBJECT, BACKGROUND).astype(np.uint8)
        if self.border_width:
            label[border_pixels(raw, self.border_width)] = BORDER
        return label


def border_pixels(cells: np.ndarray, width: int) -> np.ndarray:
    """Pixels of objects from which a pixel of another label is less than `width` + 1 away.

    Past the edge of the image nothing is known, so that edge makes no border.

    Args:
      cells: number of the object of each pixel, `[H, W]`; 0 is none.
      width: pixels, along rows and columns one after the other (city-block distance).

    Returns:
      bool `[H, W]`.

    Example:
      >>> border_pixels(np.array([[1, 1, 1, 0, 0]]), 1).tolist()
      [[False, False, True, False, False]]
    """
    least, most = cells, cells
    for _ in range(width):
        least, most = (
            _with_neighbours(least, np.minimum),
            _with_neighbours(most, np.maximum),
        )
    return (cells > 0) & (least != most)


def _with_neighbours(cells: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """The least or the most of each pixel and its four neighbours."""
    found = cells.copy()
    for axis in (0, 1):
        given, made = np.moveaxis(cells, axis, 0), np.moveaxis(found, axis, 0)
        extreme(made[1:], given[:-1], out=made[1:])
        extreme(made[:-1], given[1:], out=made[:-1])
    return found


def require_numbers(label: np.ndarray, where: str) -> None:
    """Checks that a label holds numbers of objects.

    Raises:
      UserError: it holds something else; `where` names the file and page.
    """
    if label.dtype.kind not in "iu":
        raise UserError(
            f"{where} holds {label.dtype} values, where the numbers of objects belong, 0 "
            f"for none. {NUMBER_THEM}, and save them with 16 bits."
        )
    if negative := int((label < 0).sum()):
        raise UserError(
            f"{where} has negative values ({negative} pixels, the least is {label.min()}), "
            "which mark the background in some programs and what does not count in "
            "others. Save 0 where there is no object."
        )
