"""A predicted page, as those take it that write its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PageObjects:
    """The objects of a page.

    Attributes:
      numbers: int32 `[H, W]`, 0 where there is none; unique in the file.
      rows: those of the table of objects, in the order of its columns.
    """

    numbers: np.ndarray
    rows: Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class PageResult:
    """The results of a page.

    Attributes:
      number: its number in the file, from 1.
      image: as it is stored, `[H, W, C]`, where something is plotted over it.
      outputs: of the network, by name, in the size of the image.
      objects: those of the page, where they are wanted.
    """

    number: int
    image: np.ndarray | None
    outputs: Mapping[str, np.ndarray]
    objects: PageObjects | None = None


WriteResult = Callable[[PageResult], None]
"""Adds a page to a file of results."""
