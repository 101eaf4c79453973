"""One page of an image file as it is stored, whatever the format of the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from segjax.data.files.layout import Layout
from segjax.data.files.orientation import upright
from segjax.errors import UserError

MAX_PIXELS = 1 << 31
"""Pixels of one page, at most (46340 x 46340). More is refused as a damaged header."""

MAX_BYTES = 1 << 34
"""Bytes of one page, at most: `MAX_PIXELS` of 4 channels with 16 bits."""

SMALL_BYTES = 1 << 28
"""Bytes for which nobody asks whether the memory suffices."""

EXTRA_CODECS = "pip install segjax[tiff]"
"""The command that installs the decoders of rarer compressions."""


Window = tuple[slice, slice]
"""Rows and columns of a part of a page."""


def with_margin(
    window: Window, margin: int, size: tuple[int, int]
) -> tuple[Window, Window]:
    """Enlarges a window by what a neighbourhood of its pixels needs.

    Args:
      window: rows and columns.
      margin: pixels on each side; past the edge of the page there are none.
      size: height and width of the page.

    Returns:
      The larger window, and where the window lies within it.

    Example:
      >>> with_margin((slice(1, 3), slice(5, 9)), 2, (8, 10))
      ((slice(0, 5, None), slice(3, 10, None)), (slice(1, 3, None), slice(2, 6, None)))
    """
    around, within = [], []
    for part, length in zip(window, size, strict=True):
        first, last, _ = part.indices(length)
        start = max(first - margin, 0)
        around.append(slice(start, min(last + margin, length)))
        within.append(slice(first - start, last - start))
    return (around[0], around[1]), (within[0], within[1])


@dataclass(frozen=True)
class Stored:
    """One page as its file stores it.

    Attributes:
      values: `[H, W]` or `[H, W, C]`, without transparency.
      kind: "grey", "rgb", "palette", "bilevel", "cmyk", "extra" (more channels than the
        colours need, which are not transparency), "channels" (that were stored as planes)
        or "other".
      alpha: `[H, W]`, opacity, where the file has any; the maximum of its type is opaque.
      gain: factor by which Pillow stretched grey values of less than 8 bits.
      inverted: 0 means white.
      palette: `[n, 3]` uint8, the colours that the values of a palette picture stand
        for, where the format says so.
      always_palette: the format has no other way of storing colours, so that a palette
        does not distinguish labels from images.
      orientation: tag of EXIF or TIFF, 1 to 8 (`segjax.data.files.orientation`).
    """

    values: np.ndarray
    kind: str
    alpha: np.ndarray | None = None
    gain: int = 1
    inverted: bool = False
    palette: np.ndarray | None = None
    always_palette: bool = False
    orientation: int = 1

    def upright(self) -> Stored:
        """Returns the page as viewers show it."""
        if self.orientation == 1:
            return self
        alpha = self.alpha
        return replace(
            self,
            values=upright(self.values, self.orientation),
            alpha=None if alpha is None else upright(alpha, self.orientation),
            orientation=1,
        )


def together(planes: Sequence[Stored]) -> Stored:
    """Makes one page of the planes of its channels.

    Raises:
      ValueError: they differ in size or type.
    """
    first = planes[0]
    if len(planes) == 1:
        return first
    for plane in planes:
        if plane.kind not in ("grey", "rgb", "extra"):
            return plane
        if (plane.values.shape, plane.values.dtype) != (
            first.values.shape,
            first.values.dtype,
        ):
            raise ValueError("its channels differ in size or type")
    seen_through = [plane.alpha for plane in planes if plane.alpha is not None]
    return replace(
        first,
        values=np.dstack([plane.values for plane in planes]),
        kind="channels",
        alpha=np.minimum.reduce(seen_through) if seen_through else None,
    )


def pixel(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Makes a pixel of the largest value of a type, which is opaque and finite.

    Example:
      >>> pixel((1, 1), np.uint8).tolist()
      [[255]]
    """
    kind = np.dtype(dtype)
    return np.full(shape, np.iinfo(kind).max if kind.kind in "ui" else 1, kind)


class Pages(Protocol):
    """An open file."""

    @property
    def layout(self) -> Layout:
        """Returns what it states of its axes."""

    def __len__(self) -> int:
        """Returns the number of pages."""

    def page(self, index: int) -> Stored:
        """Decodes one page."""

    def head(self, index: int) -> Stored:
        """Returns one pixel that stands for a page: its kind, type and channels."""

    def loss(self, index: int) -> str:
        """Says how a page was compressed if that may change values, else nothing."""


def require_room(
    path: Path, width: int, height: int, bytes_per_pixel: int, most: float | None = None
) -> None:
    """Checks what a head claims, before anything is decoded.

    Args:
      path: the file, for the message.
      width: columns of the page.
      height: rows of it.
      bytes_per_pixel: of the decoded page.
      most: bytes that the compressed ones can stand for, where their compression has a
        limit.

    Raises:
      UserError: more than `MAX_PIXELS` or `MAX_BYTES`, more than `most`, or more than the
        memory that is free.
    """
    total = width * height * bytes_per_pixel
    claims = f"{path} claims {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{claims}, more than the {MAX_PIXELS} that one page may have. Cut it into "
            "pieces, or replace it if it is damaged."
        )
    if total > MAX_BYTES:
        raise UserError(
            f"{claims} of {bytes_per_pixel} bytes, more than the {MAX_BYTES} bytes that "
            "one page may have. Cut it into pieces, or replace it if it is damaged."
        )
    if most is not None and total > most:
        raise UserError(
            f"{claims} ({total} bytes), but what it holds is too short for them: it is "
            "truncated or damaged. Copy it again or remove it."
        )
    if total > SMALL_BYTES and (free := free_bytes()) is not None and total > free:
        raise UserError(
            f"{claims}, which take {total >> 20} MiB of memory, where {free >> 20} MiB "
            "are free. Cut it into pieces, or use a machine with more memory."
        )


def free_bytes() -> int | None:
    """Memory that a process can have now, where the system says so."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with open("/proc/meminfo", encoding="ascii") as lines:
            line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) << 10
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
