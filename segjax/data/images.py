"""Images and labels from files, page by page.

PNG, JPEG, WebP and TIFF; grey or RGB; 8 or 16 bit. A multi-page TIFF is a stack, read
one page at a time, so memory is that of a page; who stops half way closes the generator
(`contextlib.closing`), and with it the file. Nothing is converted silently: a file
that would have to be guessed at ends in a `UserError` that says what to do with it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import numpy as np

from segjax.data.decoders import opened
from segjax.data.normalization import NORMALIZATIONS as NORMALIZATIONS
from segjax.data.normalization import normalize as normalize
from segjax.data.stored import Stored
from segjax.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""Endings of the files that are read, in small letters."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".webp")
"""Those among them that labels may have: JPEG changes values."""

_REFUSED_IMAGE = {
    "alpha": "has an alpha channel. Save it without transparency, as grey or RGB.",
    "palette": (
        "is a palette picture, whose values are positions in a colour table and no "
        "intensities. Save it as grey or RGB."
    ),
    "cmyk": "is CMYK, the colours of printers. Save it as grey or RGB.",
    "bilevel": "has 1 bit per pixel. Save it with 8 or 16 bits.",
    "other": "is neither grey nor RGB. Save it as grey or RGB.",
}
_REFUSED_LABEL = {
    "alpha": (
        "has an alpha channel where class ids are expected. Save one number per pixel "
        "(grey or palette PNG)."
    ),
    "cmyk": (
        "is CMYK where class ids are expected. Save one number per pixel (grey or "
        "palette PNG)."
    ),
    "other": (
        "is no plain grid of class ids. Save one number per pixel (grey or palette PNG)."
    ),
}


def list_images(path: str | Path) -> list[Path]:
    """Lists the image files of a folder, numbers in names in their natural order.

    Args:
      path: a folder (its sub-folders are not entered), or one file.

    Returns:
      Paths, "slice2.png" before "slice10.png". Hidden files and files of other
      endings than `SUFFIXES` are left out. A file is returned as it is.

    Raises:
      UserError: the path does not exist, may not be read, or holds no image.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise UserError(f"{path} does not exist. Check the path.")
    try:
        entries = [p for p in path.iterdir() if not p.name.startswith(".")]
        images = [p for p in entries if p.suffix.lower() in SUFFIXES and p.is_file()]
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Change its permissions."
        ) from error
    if not images:
        found = sorted(
            {f"{p.name}/" if p.is_dir() else p.suffix or p.name for p in entries}
        )
        contents = f"holds no image, only {', '.join(found[:5])}"
        raise UserError(
            f"{path} {contents if found else 'is empty'}. Put files ending in "
            f"{', '.join(SUFFIXES)} there."
        )
    return sorted(images, key=_natural_order)


def count_pages(path: str | Path) -> int:
    """Counts the pages of an image file: 1, or more for a TIFF stack.

    Raises:
      UserError: the file is missing, empty, unreadable, truncated or damaged.
    """
    with opened(Path(path)) as pages:
        return len(pages)


def read_pages(path: str | Path) -> Generator[np.ndarray, None, None]:
    """Reads the pages of an image one after the other.

    Args:
      path: a PNG, JPEG, WebP or TIFF file.

    Yields:
      Images `[H, W, C]`, uint8 or uint16, C = 1 (grey) or 3 (RGB). Where a TIFF says
      that 0 is white, values are inverted, so that dark is low everywhere.

    Raises:
      UserError: the file is missing, empty, truncated or damaged, or holds no grey or
        RGB image of 8 or 16 bits (alpha, palette, CMYK, 1 bit, float, NaN).
    """
    path = Path(path)
    with opened(path) as pages:
        for index in range(len(pages)):
            yield _image(pages.page(index), _where(path, index, len(pages)))


def read_page(path: str | Path, index: int = 0) -> np.ndarray:
    """Reads one page of an image, `[H, W, C]`; see `read_pages`.

    Raises:
      UserError: as `read_pages`, or there is no such page.
    """
    path = Path(path)
    with opened(path, scan=False) as pages:
        _require_page(path, index, len(pages))
        return _image(pages.page(index), _where(path, index, len(pages)))


def read_label_pages(path: str | Path) -> Generator[np.ndarray, None, None]:
    """Reads the pages of a label one after the other.

    Args:
      path: a PNG, WebP or TIFF file. JPEG changes values, so it is refused.

    Yields:
      Values as stored, integer or bool `[H, W]`: positions for a palette picture, 0
      and 1 for 1 bit per pixel. `LabelSpec.to_ids` turns them into class ids.

    Raises:
      UserError: the file is missing, empty, truncated or damaged, or no grid of class
        ids (colours, alpha, CMYK, JPEG).
    """
    path = Path(path)
    with opened(path) as pages:
        for index in range(len(pages)):
            yield _label(pages.page(index), _where(path, index, len(pages)))


def read_label(path: str | Path, index: int = 0) -> np.ndarray:
    """Reads one page of a label, `[H, W]` as stored; see `read_label_pages`.

    Raises:
      UserError: as `read_label_pages`, or there is no such page.
    """
    path = Path(path)
    with opened(path, scan=False) as pages:
        _require_page(path, index, len(pages))
        return _label(pages.page(index), _where(path, index, len(pages)))


def read_palette(path: str | Path) -> np.ndarray | None:
    """Reads the colours that the values of a palette picture stand for.

    Returns:
      `[n, 3]` uint8, position by position; None where the file is no palette picture.

    Raises:
      UserError: as `read_label_pages`.
    """
    with opened(Path(path), scan=False) as pages:
        return pages.page(0).palette


def grey_pages_hint(where: str, found: int, wanted: int) -> str:
    """Says what to do with 3 grey pages that were written as one page in colour.

    That is what tifffile makes of an array `[3, H, W]` if it is not told otherwise.

    Args:
      where: the file, and the page if there are several.
      found: channels of the page.
      wanted: channels that are expected.

    Returns:
      A sentence with a space before it; nothing where it cannot be so.
    """
    if (found, wanted) != (3, 1) or not where.lower().endswith((".tif", ".tiff")):
        return ""
    return ' If these are 3 grey pages, write them with photometric="minisblack".'


def _image(stored: Stored, where: str) -> np.ndarray:
    """Returns a stored page as an image `[H, W, C]`, or says why it is none."""
    values = stored.values
    if values.dtype.kind == "f":
        wrong = values.size - int(np.isfinite(values).sum())
        if wrong:
            raise UserError(
                f"{where} has {wrong} values that are NaN or infinite. Repair them and "
                "save the image with 8 or 16 bits."
            )
    if stored.kind in _REFUSED_IMAGE:
        channels = f" ({values.shape[-1]} channels)" if values.ndim == 3 else ""
        raise UserError(f"{where}{channels} {_REFUSED_IMAGE[stored.kind]}")
    if values.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise UserError(
            f"{where} holds {values.dtype} values, whose range is not known. Save the "
            "image with 8 or 16 bits (unsigned integers)."
        )
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] not in (1, 3):
        raise UserError(
            f"{where} has {values.shape[-1]} channels; 1 (grey) and 3 (RGB) can be "
            "read. Save a stack as pages, not as channels."
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.iinfo(values.dtype).max - values if stored.inverted else values


def _label(stored: Stored, where: str) -> np.ndarray:
    """Returns a stored page as label values `[H, W]`, or says why it is none."""
    values = stored.values
    if stored.lossy:
        raise UserError(
            f"{where} is a JPEG, which changes label values near edges. Save the "
            "labels as PNG or TIFF."
        )
    if stored.kind in _REFUSED_LABEL:
        raise UserError(f"{where} {_REFUSED_LABEL[stored.kind]}")
    if values.ndim == 3:
        grey = values[..., 0]
        if not all(np.array_equal(grey, values[..., c]) for c in (1, -1)):
            raise UserError(
                f"{where} is a colour picture where class ids are expected. Save one "
                "number per pixel (grey or palette PNG); where every class has its own "
                "colour, segjax.data.palette.ids_of_colors turns colours into ids."
            )
        values = grey
    return values // stored.gain if stored.gain > 1 else values


def _where(path: Path, index: int, count: int) -> str:
    return str(path) if count == 1 else f"{path}, page {index + 1} of {count},"


def _require_page(path: Path, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise UserError(
            f"{path} has {count} pages, but page {index + 1} is asked for. "
            "Was the file exchanged?"
        )


def _natural_order(path: Path) -> tuple[list[int | str], str]:
    # Splitting at digits puts text at even places and numbers at odd ones, so that
    # entries of two keys always compare with their own kind.
    parts = re.split(r"(\d+)", path.name.lower())
    key: list[int | str] = [int(p) if i % 2 else p for i, p in enumerate(parts)]
    return key, path.name
