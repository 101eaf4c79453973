"""The interactive figures: what each shows, made by segjax, and the script that lets one play.

A figure is two files of one name: NAME.py computes its data and draws the picture for those who
have no JavaScript, NAME.js draws what the reader moves. `figures.js` has what all of them share.
"""

from __future__ import annotations

import base64
import importlib
from typing import Any

import numpy as np

NAMES = (
    "fields",
    "taps",
    "transposed",
    "upsampling",
    "corners",
    "seam",
    "borders",
    "mean_field",
    "crf",
    "confusion",
    "anchors",
    "regions",
)
"""In the order of the page docs/figures.md."""


def module(name: str) -> Any:
    """Finds the Python part of a figure.

    Args:
      name: one of `NAMES`.

    Returns:
      A module with `TITLE`, `CAPTION`, `ALTERNATIVE` (what the picture shows, in words), `data()`,
      which is ready for JSON, and `picture(data)`.

    Raises:
      KeyError: if there is no such figure.
    """
    if name not in NAMES:
        raise KeyError(f"there is no figure {name!r}; there are {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")


def packed(values: np.ndarray) -> str:
    """Writes bytes for the script, which reads them with `bytes`.

    Args:
      values: uint8 of any shape, or bool; the script has to know the shape.

    Returns:
      Base64.

    Example:
      >>> packed(np.array([1, 2, 3], np.uint8))
      'AQID'
    """
    assert values.dtype in (np.uint8, bool)
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads what `packed` wrote.

    Args:
      text: base64.
      shape: of the array.

    Returns:
      uint8 of that shape.
    """
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def quantized(values: Any) -> np.ndarray:
    """Turns numbers from 0 to 1 into bytes."""
    return np.rint(255 * np.clip(np.asarray(values, np.float64), 0, 1)).astype(np.uint8)


def rounded(values: Any, digits: int = 5) -> Any:
    """Writes numbers as lists, with as many digits after the point as one can see."""
    return np.round(np.asarray(values, np.float64), digits).tolist()
