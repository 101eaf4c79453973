"""Image files as they are stored: pages of numbers and what kind of numbers they are.

TIFF goes through tifffile, page by page; PNG, JPEG and WebP through Pillow. Whether a
page is fit to be an image or a label is for `segjax.data.images` to judge.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import tifffile
from PIL import Image

from segjax.types import UserError

MAX_PIXELS = 1 << 31
"""Pixels of one page, at most (46340 x 46340). More is refused as a damaged header."""

# Pillow takes pictures of more than 89 million pixels for attacks on a web server. Here
# the pictures are the person's own, and a page of a microscope has 400 million.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# tifffile logs what is wrong with a file and goes on; here the same faults are raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP")
_CODECS = "pip install segjax[tiff]"

_KIND_OF_MODE = {
    "1": "bilevel",
    "L": "grey",
    "I;16": "grey",
    "RGB": "rgb",
    "P": "palette",
    "LA": "alpha",
    "La": "alpha",
    "PA": "alpha",
    "RGBA": "alpha",
    "RGBa": "alpha",
    "CMYK": "cmyk",
    "YCCK": "cmyk",
}
_KIND_OF_PHOTOMETRIC: dict[int, tuple[str, int]] = {
    tifffile.PHOTOMETRIC.MINISBLACK: ("grey", 1),
    tifffile.PHOTOMETRIC.MINISWHITE: ("grey", 1),
    tifffile.PHOTOMETRIC.RGB: ("rgb", 3),
    tifffile.PHOTOMETRIC.YCBCR: ("rgb", 3),
    tifffile.PHOTOMETRIC.PALETTE: ("palette", 1),
    tifffile.PHOTOMETRIC.SEPARATED: ("cmyk", 4),
}


@dataclass(frozen=True)
class Stored:
    """One page as its file stores it.

    Attributes:
      values: `[H, W]` or `[H, W, C]`.
      kind: "grey", "rgb", "palette", "bilevel", "alpha", "cmyk" or "other".
      lossy: compressed so that values are only nearly right (JPEG).
      gain: factor by which Pillow stretched grey values of less than 8 bits.
      inverted: 0 means white.
    """

    values: np.ndarray
    kind: str
    lossy: bool = False
    gain: int = 1
    inverted: bool = False


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


@contextlib.contextmanager
def opened(path: Path, *, scan: bool = True) -> Iterator[Pages]:
    """Opens an image file; what goes wrong inside is told as a sentence.

    Args:
      path: the file.
      scan: look at the heads of all pages at once, so that a stack that is not whole
        is found before its first page is used. False for picking one page of a file
        that was scanned before: with 1000 pages 5 ms instead of 170.

    Yields:
      Its pages.

    Raises:
      UserError: the file is missing, empty, not readable, of another format, damaged
        or truncated, or its compression needs a package that is not installed.
    """
    with _told_as_a_sentence(path):
        start = _first_bytes(path)
        pages: Pages
        if start.startswith(_TIFF_STARTS):
            pages = TiffPages(path)
            if scan:
                pages.scan()
        else:
            pages = PillowPages(path, start)
        with pages:
            yield pages


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise UserError(f"{path} does not exist. Check the path.")
    if not path.is_file():
        raise UserError(f"{path} is no file. Give the path of an image file.")
    with path.open("rb") as file:
        start = file.read(26)
    if not start:
        raise UserError(f"{path} is empty (0 bytes). Copy it again or remove it.")
    return start


@contextlib.contextmanager
def _told_as_a_sentence(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises into a `UserError` that names the file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except PermissionError as error:
        raise UserError(
            f"{path} may not be read (permission denied). Change its permissions."
        ) from error
    except Exception as error:
        # Decoders have no common exception: OSError, SyntaxError, struct.error,
        # ValueError, zlib.error and the codecs' own all mean a file that is not whole.
        if "imagecodecs" in str(error) and "requires" in str(error):
            raise UserError(
                f"{path} is compressed in a way that needs a further package: {error}. "
                f"Run `{_CODECS}`, or save the file without compression or with deflate."
            ) from error
        reason = " ".join(str(error).replace(str(path), "it").split())[:120]
        raise UserError(
            f"{path} cannot be decoded: it is truncated or damaged "
            f"({type(error).__name__}: {reason}). Copy it again or remove it."
        ) from error


class TiffPages:
    """The pages of a TIFF file, including ImageJ stacks beyond 4 GB."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = tifffile.TiffFile(path)
        try:
            self._count = self._require_all_pages()
            self._volume = self._contiguous_volume() if self._count == 1 else None
            described = (self._file.imagej_metadata or {}).get("images", 1)
            if len(self) < described:
                raise ValueError(f"{len(self)} of {described} pages are there")
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return self._count if self._volume is None else len(self._volume)

    def __enter__(self) -> TiffPages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def page(self, index: int) -> Stored:
        """Decodes page `index`."""
        page = self._head(0 if self._volume is not None else index)
        _require_pixels(self._path, page.imagewidth, page.imagelength)
        if self._volume is None:
            values = page.asarray(maxworkers=1)
        else:
            values = np.array(self._volume[index])
        if page.axes == "SYX":
            values = np.moveaxis(values, 0, -1)
        elif page.axes not in ("YX", "YXS"):
            return Stored(values, "other")
        kind, samples = _KIND_OF_PHOTOMETRIC.get(page.photometric, ("other", 1))
        if kind == "grey" and page.bitspersample == 1:
            kind = "bilevel"
        if page.samplesperpixel == samples + 1 or _alpha(page.extrasamples):
            kind = "alpha"
        return Stored(
            values,
            kind,
            lossy=page.compression in (tifffile.COMPRESSION.JPEG, 6),
            inverted=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        )

    def scan(self) -> None:
        """Looks at the head of every page, which raises where one is not whole."""
        try:
            for index in range(self._count):
                self._head(index)
        except BaseException:
            self._file.close()
            raise

    def _head(self, index: int) -> tifffile.TiffPage:
        """Returns the description of a page, after checking that its pixels are there."""
        page = self._file.pages[index]
        if not isinstance(page, tifffile.TiffPage):
            raise TypeError(f"page {index + 1} has no description of its own")
        if page.is_reduced:
            raise UserError(
                f"{self._path} holds smaller copies of its image (page {index + 1}). "
                "Save the pages in full size alone."
            )
        ends = zip(page.dataoffsets, page.databytecounts, strict=True)
        size = self._file.filehandle.size
        if max((start + count for start, count in ends), default=size + 1) > size:
            raise ValueError(f"page {index + 1} reaches beyond the end of the file")
        return page

    def _require_all_pages(self) -> int:
        """Counts the pages and raises where the last one points to another.

        tifffile reads the pages that it can reach, so a stack that was cut off in
        copying would pass for a shorter one.
        """
        count = len(self._file.pages)
        if count == 0:
            raise ValueError("no page found")
        layout, file = self._file.tiff, self._file.filehandle
        file.seek(self._file.pages[count - 1].offset)
        (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        file.seek(tags * layout.tagsize, 1)
        (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        if following >= file.size:
            raise ValueError(f"the pages after number {count} are missing")
        return count

    def _contiguous_volume(self) -> np.ndarray | None:
        """Maps a stack that describes its first page only, as ImageJ writes large ones."""
        series, page = self._file.series[0], self._head(0)
        if series.size == page.size:
            return None
        if series.dataoffset is None:
            raise ValueError(f"1 page where its description says {series.shape}")
        return np.memmap(
            self._path,
            dtype=np.dtype(page.dtype).newbyteorder(self._file.byteorder),
            mode="r",
            offset=series.dataoffset,
            shape=(series.size // page.size, *page.shape),
        )


class PillowPages:
    """A PNG, JPEG or WebP file: always one page."""

    def __init__(self, path: Path, start: bytes) -> None:
        self._path = path
        self._depth, self._color_type = 8, None
        if start.startswith(_PNG_START) and len(start) == 26:
            self._depth, self._color_type = start[24], start[25]
        try:
            self._image = Image.open(path, formats=_PILLOW_FORMATS)
        except Image.UnidentifiedImageError as error:
            raise UserError(
                f"{path} is neither PNG, JPEG, WebP nor TIFF, or its start is damaged. "
                "Save it again in one of these formats."
            ) from error

    def __len__(self) -> int:
        return 1

    def __enter__(self) -> PillowPages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._image.close()

    def page(self, index: int) -> Stored:
        """Decodes the one page."""
        image = self._image
        _require_pixels(self._path, *image.size)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in ("PNG", "WEBP"):
            raise UserError(
                f"{self._path} is an animation of {frames} pictures. "
                "Save a stack as multi-page TIFF."
            )
        kind = _KIND_OF_MODE.get(image.mode, "other")
        if self._depth == 16 and image.mode == "RGB":
            # Pillow would cut the values to 8 bits without a word.
            return Stored(_decode_deep_color(self._path), "rgb")
        if "transparency" in image.info and kind != "palette":
            kind = "alpha"
        gain = 255 // (2**self._depth - 1) if self._color_type == 0 else 1
        return Stored(
            np.array(image),
            kind,
            lossy=image.format in ("JPEG", "MPO"),
            gain=gain if self._depth in (2, 4) else 1,
        )


def _alpha(extrasamples: tuple[int, ...]) -> bool:
    return any(
        extra in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
        for extra in extrasamples
    )


def _require_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} claims {width} x {height} pixels, more than the {MAX_PIXELS} that "
            "one page may have. Cut it into pieces, or replace it if it is damaged."
        )


def _decode_deep_color(path: Path) -> np.ndarray:
    """Decodes a PNG with three channels of 16 bits, `[H, W, 3]` uint16."""
    try:
        codecs = importlib.import_module("imagecodecs")
    except ImportError as error:
        raise UserError(
            f"{path} is a colour PNG of 16 bits per channel, which needs a further "
            f"package. Run `{_CODECS}`, or save the file as TIFF."
        ) from error
    return codecs.png_decode(path.read_bytes())
