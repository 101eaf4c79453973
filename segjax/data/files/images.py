"""Images and labels from files, page by page.

PNG, JPEG, WebP, TIFF, BMP and GIF; grey, RGB, or the channels of a microscope; turned as
viewers show them. A multi-page TIFF is a stack, of whose axes time and depth are pages, and
channels those of a page. It is read one page at a time, so memory is that of a page; who
stops half way closes the generator (`contextlib.closing`), and with it the file. Nothing is
converted silently: a file that would have to be guessed at ends in a `UserError` that says
what to do with it. Which files of a folder are images is decided by `segjax.data.files.listing`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from segjax.data.files.channels import SECTIONS_HINT as SECTIONS_HINT
from segjax.data.files.channels import conversion as conversion
from segjax.data.files.channels import grey_pages_hint as grey_pages_hint
from segjax.data.files.channels import with_channels as with_channels
from segjax.data.files.decoders import decoding, opened
from segjax.data.files.layout import Layout
from segjax.data.files.listing import LABEL_SUFFIXES as LABEL_SUFFIXES
from segjax.data.files.listing import SUFFIXES as SUFFIXES
from segjax.data.files.listing import list_images as list_images
from segjax.data.files.plane import Pages, Stored, Window
from segjax.data.files.zarr import ZarrPages, is_zarr
from segjax.data.normalization import NORMALIZATIONS as NORMALIZATIONS
from segjax.data.normalization import normalize as normalize
from segjax.errors import UserError

_REFUSED_IMAGE = {
    "palette": (
        "is a palette picture, whose values are positions in a colour table, not "
        "intensities. Save it as grey or RGB."
    ),
    "cmyk": "is CMYK, the colours of printers. Save it as grey or RGB.",
    "bilevel": "has 1 bit per pixel. Save it with 8 or 16 bits.",
    "other": "is neither grey nor RGB. Save it as grey or RGB.",
}
_REFUSED_LABEL = {
    "cmyk": (
        "is CMYK where one number per pixel is expected. Save it as grey or palette PNG."
    ),
    "other": "is not a plain grid of numbers. Save one number per pixel as grey PNG.",
}
IMAGE_TYPES = ("uint8", "uint16", "uint32", "int16", "float32")
"""Types of the values that images are read with; those of other floats become float32."""

_LARGEST_WHOLE = 1 << 53
"""Integers beyond this are not all told apart by a float64."""


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
      path: a file of one of `SUFFIXES`.

    Yields:
      Images `[H, W, C]`, of one of `IMAGE_TYPES`. C is 1 (grey), 3 (RGB), or the number of
      channels that a TIFF states. Orientation tags are applied; transparency is dropped
      where everything is opaque; where a TIFF says that 0 is white, unsigned values are
      inverted, so that dark is low everywhere.

    Raises:
      UserError: the file is missing, empty, truncated or damaged, or holds no image
        (transparent parts, palette, CMYK, 1 bit, values of other types, NaN).
    """
    path = Path(path)
    with opened(path) as pages:
        for index in range(len(pages)):
            yield _image(pages, index, path)


def read_layout(path: str | Path) -> Layout:
    """Reads what an image file states of its axes; no pixels are decoded.

    Raises:
      UserError: the file is missing, empty, unreadable, or damaged at its start.
    """
    with opened(Path(path), scan=False) as pages:
        return pages.layout


def read_page(
    path: str | Path, index: int = 0, window: Window | None = None
) -> np.ndarray:
    """Reads one page of an image, `[H, W, C]`, or a window of it; see `read_pages`.

    Args:
      path: a file of one of `SUFFIXES`.
      index: of the page.
      window: rows and columns that are wanted, where `window_size` is not None.

    Returns:
      As `read_pages` yields them.

    Raises:
      UserError: as `read_pages`, or there is no such page.
    """
    return _read(_image, Path(path), index, window)


def read_heads(
    path: str | Path, indices: Iterable[int]
) -> Generator[np.ndarray, None, None]:
    """Looks at pages of an image without decoding them, where the format allows that.

    Args:
      path: a file of one of `SUFFIXES`.
      indices: of the pages.

    Yields:
      For each page one pixel `[1, 1, C]` of its type, which says nothing of its values.

    Raises:
      UserError: a page is of a kind that is no image, or its pixels are not there.
    """
    path = Path(path)
    with opened(path, scan=False) as pages:
        for index in indices:
            where = page_name(path, index, len(pages))
            with decoding(path, where):
                stored = pages.head(index)
            yield _as_image(stored, where)[:1, :1]


def window_size(path: Path) -> tuple[int, int] | None:
    """Reads the size of the pages of a file whose parts can be read without the rest.

    Returns:
      Height and width; None for files that are decoded page by page: all but OME-Zarr.

    Raises:
      UserError: as `read_layout`.
    """
    if not is_zarr(path):
        return None
    with opened(path, scan=False) as pages:
        assert isinstance(pages, ZarrPages)
        return pages.size


def read_label_pages(path: str | Path) -> Generator[np.ndarray, None, None]:
    """Reads the pages of a label one after the other.

    Args:
      path: a file of one of `LABEL_SUFFIXES`. What may have changed values, such as JPEG
        or WebP with loss, is refused.

    Yields:
      Values as stored, integer or bool `[H, W]`: positions for a palette picture, 0
      and 1 for 1 bit per pixel; floats that are all integers as int64. Orientation tags
      are applied. `LabelSpec.to_ids` turns them into class ids.

    Raises:
      UserError: the file is missing, empty, truncated or damaged, or not a grid of
        numbers that were kept as they are (colours, transparent parts, CMYK, JPEG, NaN).
    """
    path = Path(path)
    with opened(path) as pages:
        for index in range(len(pages)):
            yield _label(pages, index, path)


def read_label(
    path: str | Path, index: int = 0, window: Window | None = None
) -> np.ndarray:
    """Reads one page of a label, `[H, W]` as stored, or a window of it, as `read_page`.

    Args:
      path: a file of one of `LABEL_SUFFIXES`.
      index: of the page.
      window: rows and columns that are wanted, where `window_size` is not None.

    Returns:
      As `read_label_pages` yields them.

    Raises:
      UserError: as `read_label_pages`, or there is no such page.
    """
    return _read(_label, Path(path), index, window)


def read_palette(path: str | Path) -> np.ndarray | None:
    """Reads the colours that the values of a palette picture stand for.

    Returns:
      `[n, 3]` uint8, position by position; None where the file is not a palette picture.

    Raises:
      UserError: as `read_label_pages`.
    """
    with opened(Path(path), scan=False) as pages:
        return pages.page(0).palette


def page_name(path: Path, index: int, count: int) -> str:
    """Says for a message which page of a file is meant, where it has several.

    Example:
      >>> page_name(Path("a.tif"), 0, 1), page_name(Path("a.tif"), 0, 2)
      ('a.tif', 'a.tif, page 1 of 2,')
    """
    return str(path) if count == 1 else f"{path}, page {index + 1} of {count},"


class _Make(Protocol):
    def __call__(
        self, pages: Pages, index: int, path: Path, window: Window | None = None
    ) -> np.ndarray: ...


def _read(make: _Make, path: Path, index: int, window: Window | None) -> np.ndarray:
    """Opens a file for one of its pages."""
    with opened(path, scan=False) as pages:
        if not 0 <= index < len(pages):
            raise UserError(
                f"{path} has {len(pages)} pages, but page {index + 1} is asked for. "
                "Was the file exchanged?"
            )
        return make(pages, index, path, window)


def _stored(
    pages: Pages, index: int, path: Path, window: Window | None
) -> tuple[Stored, str]:
    """Decodes a page, and says what to call it in a message."""
    where = page_name(path, index, len(pages))
    if window is not None and not isinstance(pages, ZarrPages):
        raise ValueError(f"of {type(pages).__name__} only whole pages are read")
    with decoding(path, where):
        if window is not None and isinstance(pages, ZarrPages):
            return pages.page(index, window), where
        return pages.page(index).upright(), where


def _image(
    pages: Pages, index: int, path: Path, window: Window | None = None
) -> np.ndarray:
    return _as_image(*_stored(pages, index, path, window))


def _as_image(stored: Stored, where: str) -> np.ndarray:
    """Returns a stored page as an image `[H, W, C]`, or says why it is none."""
    values = stored.values
    if values.dtype.kind == "f":
        values = _as_float32(values, where)
    if (
        stored.kind == "palette"
        and stored.always_palette
        and stored.palette is not None
    ):
        values = stored.palette[values]
        if (values == values[..., :1]).all():
            values = values[..., :1]
    elif stored.kind in _REFUSED_IMAGE:
        channels = f" ({values.shape[-1]} channels)" if values.ndim == 3 else ""
        raise UserError(f"{where}{channels} {_REFUSED_IMAGE[stored.kind]}")
    _require_opaque(stored, where)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.name not in IMAGE_TYPES:
        raise UserError(
            f"{where} holds {values.dtype} values, which images have rarely. Save the image "
            f"as one of {', '.join(IMAGE_TYPES)}."
        )
    if values.ndim == 2:
        values = values[..., None]
    if not stored.inverted:
        return values
    if values.dtype.kind != "u":
        raise UserError(
            f"{where} says that 0 is white, but holds {values.dtype} values, of which it "
            "is not clear what black is. Save it such that 0 is black."
        )
    return np.iinfo(values.dtype).max - values


def _label(
    pages: Pages, index: int, path: Path, window: Window | None = None
) -> np.ndarray:
    """Returns a stored page as label values `[H, W]`, or says why it is none."""
    where = page_name(path, index, len(pages))
    with decoding(path, where):
        loss = pages.loss(index)
    if loss:
        raise UserError(
            f"{where} {loss}. Save the labels anew from where they were drawn, as PNG or "
            "TIFF; converting this file does not bring them back."
        )
    stored, _ = _stored(pages, index, path, window)
    values = stored.values
    if stored.kind in _REFUSED_LABEL:
        raise UserError(f"{where} {_REFUSED_LABEL[stored.kind]}")
    if stored.kind != "palette":
        _require_opaque(stored, where)
    if stored.kind in ("channels", "extra"):
        raise UserError(
            f"{where} has {values.shape[-1]} channels where one number per pixel is "
            f"expected. Save only the channel with the labels.{SECTIONS_HINT}"
        )
    if values.ndim == 3:
        grey = values[..., 0]
        if not (values == grey[..., None]).all():
            raise UserError(
                f"{where} is a colour picture where one number per pixel is expected. Save "
                "it as grey or palette PNG; where every class has its own colour, "
                "segjax.data.files.palette.ids_of_colors turns colours into ids."
            )
        values = grey
    if values.dtype.kind == "f":
        _require_finite(values, where, "the labels as integers")
        exact = values.astype(np.float64)
        if (exact == np.rint(exact)).all() and (abs(exact) < _LARGEST_WHOLE).all():
            values = exact.astype(np.int64)
    return values // stored.gain if stored.gain > 1 else values


def _as_float32(values: np.ndarray, where: str) -> np.ndarray:
    """Brings floats to the type that they are read with."""
    _require_finite(values, where, "the image")
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if values.dtype.itemsize > narrow.dtype.itemsize and np.isinf(narrow).any():
        largest = np.finfo(np.float32).max
        count = int(np.isinf(narrow).sum())
        raise UserError(
            f"{where} has {count} value{'s' * (count > 1)} beyond {largest:.1e}, the largest "
            f"of float32, while {values.dtype} is not read. Divide the image by a number "
            "that brings it into this range, and save it as float32."
        )
    return narrow


def _require_finite(values: np.ndarray, where: str, remedy: str) -> None:
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        values_are = "1 value that is" if wrong == 1 else f"{wrong} values that are"
        raise UserError(
            f"{where} has {values_are} NaN or infinite. Repair the file, and save {remedy}."
        )


def _require_opaque(stored: Stored, where: str) -> None:
    """Refuses what is seen through in parts."""
    alpha = stored.alpha
    if alpha is None or not alpha.size:
        return
    full = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    clear = int((alpha != full).sum())
    if clear:
        raise UserError(
            f"{where} has a transparent part ({clear} of {alpha.size} pixels; it has an "
            "alpha channel or a transparent colour). Save it without transparency, as "
            "grey or RGB."
        )
