"""One page of an image file as it is stored, whatever the format of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from segjax.types import UserError

MAX_PIXELS = 1 << 31
"""Pixels of one page, at most (46340 x 46340). More is refused as a damaged header."""

EXTRA_CODECS = "pip install segjax[tiff]"
"""What brings the decoders of rarer compressions."""


@dataclass(frozen=True)
class Stored:
    """One page as its file stores it.

    Attributes:
      values: `[H, W]` or `[H, W, C]`.
      kind: "grey", "rgb", "palette", "bilevel", "alpha", "cmyk" or "other".
      lossy: compressed so that values are only nearly right (JPEG).
      gain: factor by which Pillow stretched grey values of less than 8 bits.
      inverted: 0 means white.
      palette: `[n, 3]` uint8, the colours that the values of a palette picture stand
        for, where the format says so.
    """

    values: np.ndarray
    kind: str
    lossy: bool = False
    gain: int = 1
    inverted: bool = False
    palette: np.ndarray | None = None


class Pages(Protocol):
    """An open file."""

    def __len__(self) -> int:
        """Returns the number of pages."""

    def page(self, index: int) -> Stored:
        """Decodes one page."""

    def __enter__(self) -> Pages: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def require_pixels(path: Path, width: int, height: int) -> None:
    """Raises UserError for a page of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} claims {width} x {height} pixels, more than the {MAX_PIXELS} that "
            "one page may have. Cut it into pieces, or replace it if it is damaged."
        )
