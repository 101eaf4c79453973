"""TIFF files, page by page, through tifffile."""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from segjax.data.files.bitstreams import (
    ALWAYS_KEEP,
    HEAD,
    KEEPS_VALUES,
    SIZES,
    ends_early,
    loss_of,
    with_filler,
)
from segjax.data.files.orientation import TAG, known_orientation
from segjax.data.files.plane import (
    SMALL_BYTES,
    Stored,
    pixel,
    require_room,
    together,
)
from segjax.data.files.tiff_axes import require_pages, stated_axes
from segjax.errors import UserError

# tifffile logs what is wrong with a file and goes on; here the same faults are raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


_KIND_OF_PHOTOMETRIC: dict[int, tuple[str, int]] = {
    tifffile.PHOTOMETRIC.MINISBLACK: ("grey", 1),
    tifffile.PHOTOMETRIC.MINISWHITE: ("grey", 1),
    tifffile.PHOTOMETRIC.RGB: ("rgb", 3),
    tifffile.PHOTOMETRIC.YCBCR: ("rgb", 3),
    tifffile.PHOTOMETRIC.PALETTE: ("palette", 1),
    tifffile.PHOTOMETRIC.SEPARATED: ("cmyk", 4),
}
_AXES = ("YX", "YXS", "SYX")
_ALPHAS = ((tifffile.EXTRASAMPLE.ASSOCALPHA,), (tifffile.EXTRASAMPLE.UNASSALPHA,))
_MOST_TAGS = 4096
_IMAGEJ_DETAILS = 50839
_OF_ONE_PLANE = re.compile(r"\b[czt]:\d+/\d+")
"""In a label that Bio-Formats has given to one plane: "c:1/2 z:3/9 - a.lif"."""

_MOST_PER_BYTE: dict[int, float] = {
    tifffile.COMPRESSION.NONE: 1,
    tifffile.COMPRESSION.PACKBITS: 64,
    tifffile.COMPRESSION.ADOBE_DEFLATE: 1040,
    tifffile.COMPRESSION.DEFLATE: 1040,
    tifffile.COMPRESSION.LZW: 2800,
}
"""Bytes that one compressed byte can stand for, at most: 128 in 2, 258 in 2 bits, and 4096 in
12 bits."""


class TiffPages:
    """The pages of a TIFF file, including ImageJ stacks beyond 4 GB.

    Attributes:
      layout: what the file states of its axes.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = tifffile.TiffFile(file)
        self._newest: tuple[int, tifffile.TiffPage] | None = None
        self._offsets = self._require_all_pages()
        first = self._head(0)
        stated = stated_axes(
            first.description, first.samplesperpixel, _pixels_per_unit(first)
        )
        is_plain = len(self._offsets) > 1 or stated.values == first.size
        self._volume = None if is_plain else self._contiguous_volume(first)
        count = len(self._offsets if self._volume is None else self._volume)
        require_pages(path.name, str(path), stated, count)
        self._planes = stated.planes_of_pages(count)
        self.layout = stated.layout(count)
        if stated.program == "ImageJ":
            names = _imagej_names(first, self._planes.shape[1])
            self.layout = replace(self.layout, channel_names=names)

    def __len__(self) -> int:
        return len(self._planes)

    def page(self, index: int) -> Stored:
        """Decodes page `index`, with all its channels."""
        numbers = self._planes[index].tolist()
        if len(numbers) > 1:
            self._require_room_of(self._head(numbers[0]), len(numbers))
        return together([self._plane(number) for number in numbers])

    def head(self, index: int) -> Stored:
        """Returns one pixel that stands for page `index`; nothing is decoded."""
        numbers = [0] if self._volume is not None else self._planes[index].tolist()
        pages = [self._head(number) for number in numbers]
        if len({page.shape for page in pages}) > 1:
            raise ValueError("its channels differ in size or type")
        planes = []
        for page in pages:
            sizes = zip(page.axes, page.shape, strict=True)
            shape = [size if axis == "S" else 1 for axis, size in sizes]
            planes.append(_as_plane(page, pixel(shape, np.dtype(page.dtype))))
        return together(planes)

    def _plane(self, index: int) -> Stored:
        """Decodes a plane, which is a page or one of its channels."""
        page = self._head(0 if self._volume is not None else index)
        if page.axes not in _AXES:
            return _as_plane(page, np.zeros((0, 0)))
        self._require_room(page)
        if self._volume is None:
            values = page.asarray(maxworkers=1)
            if page.compression == tifffile.COMPRESSION.JPEG:
                self._require_all_blocks(page)
        else:
            values = np.array(self._volume[index])
        return _as_plane(page, values)

    def loss(self, index: int) -> str:
        """Says how a page was compressed if that may change values, else nothing."""
        losses = (self._loss(number) for number in self._planes[index].tolist())
        return next(filter(None, losses), "")

    def _loss(self, index: int) -> str:
        page = self._head(0 if self._volume is not None else index)
        name = _compression(page)
        if name in ALWAYS_KEEP:
            return ""
        kept: bool | None = None
        if name in KEEPS_VALUES:
            for head in self._parts(page, HEAD):
                kept = KEEPS_VALUES[name](head)
                if not kept:
                    break
        return loss_of(f"is compressed as {name}", kept)

    def scan(self) -> None:
        """Looks at the head of every page, which raises where one is not whole."""
        for index in range(len(self._offsets)):
            self._head(index)

    def _head(self, index: int) -> tifffile.TiffPage:
        """Returns the description of a page, after checking that its pixels are there."""
        if self._newest is not None and self._newest[0] == index:
            return self._newest[1]
        page = self._file.pages[0] if index == 0 else None
        if not isinstance(page, tifffile.TiffPage):
            self._file.filehandle.seek(self._offsets[index])
            page = tifffile.TiffPage(self._file, index)
        number = f"page {index + 1}"
        if page.is_reduced:
            raise UserError(
                f"{self._path} holds smaller copies of its image ({number}). "
                "Save the pages in full size alone."
            )
        if page.dtype is None or 0 in page.shape:
            raise ValueError(f"{number} has no pixels, or pixels of an unknown kind")
        parts, sizes = len(page.dataoffsets), page.databytecounts
        wanted = math.prod(page.chunked)
        missing = wanted - parts + sizes.count(0)
        if missing > 0:
            raise ValueError(
                f"{number} lacks {missing} of its {wanted} strips or tiles"
            )
        ends = zip(page.dataoffsets, sizes, strict=True)
        if max(start + count for start, count in ends) > self._file.filehandle.size:
            raise ValueError(f"{number} reaches beyond the end of the file")
        self._newest = index, page
        return page

    def _require_room(self, page: tifffile.TiffPage) -> None:
        """Checks what a page claims, in bytes, against what its strips or tiles hold."""
        stored = sum(page.databytecounts)
        if page.nbytes > min(stored, SMALL_BYTES):
            self._require_bytes(page, stored)
        if page.is_tiled:
            part = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
            if part > max(4 * page.nbytes, SMALL_BYTES):
                raise ValueError(f"its tiles of {part} bytes are larger than its image")
        if (size_of := SIZES.get(_compression(page))) is not None:
            most_pixels = max(4 * page.size, SMALL_BYTES >> 4)
            for head in self._parts(page, HEAD):
                height, width = size_of(head) or (0, 0)
                if height * width > most_pixels:
                    raise ValueError(f"a part claims {width} x {height} pixels")

    def _require_room_of(self, page: tifffile.TiffPage, planes: int) -> None:
        """Checks whether there is memory for so many planes like one."""
        bytes_per_pixel = planes * page.samplesperpixel * np.dtype(page.dtype).itemsize
        require_room(self._path, page.imagewidth, page.imagelength, bytes_per_pixel)

    def _require_bytes(self, page: tifffile.TiffPage, stored: int) -> None:
        bits = page.bitspersample if isinstance(page.bitspersample, int) else 1
        itemsize = np.dtype(page.dtype).itemsize
        most = _MOST_PER_BYTE.get(page.compression)
        if most is not None:
            # What is decoded from less than 8 or 16 bits takes more room than it needs.
            most = (most * stored + page.imagelength) * 8 * itemsize / bits
        require_room(
            self._path,
            page.imagewidth,
            page.imagelength,
            page.samplesperpixel * itemsize,
            most,
        )

    def _require_all_blocks(self, page: tifffile.TiffPage) -> None:
        """Raises where a JPEG ends within its strip or tile, and pixels with it."""
        for index, data in enumerate(self._parts(page)):
            if ends_early(data):
                pixels, others = (
                    np.asarray(page.decode(part, index, jpegtables=page.jpegtables)[0])
                    for part in (data, with_filler(data))
                )
                if not np.array_equal(pixels, others):
                    raise ValueError(f"pixels of part {index + 1} are missing")

    def _parts(
        self, page: tifffile.TiffPage, most: int | None = None
    ) -> Iterator[bytes]:
        """Yields the bytes of each strip or tile of a page, or the first ones of them."""
        file = self._file.filehandle
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(start)
            yield file.read(size if most is None else min(size, most))

    def _require_all_pages(self) -> list[int]:
        """Follows the chain of pages and raises where it is broken or bites its tail.

        tifffile reads the pages that it can reach, so a stack that was cut off in
        copying would pass for a shorter one.
        """
        layout, file = self._file.tiff, self._file.filehandle
        offsets: list[int] = []
        seen: set[int] = set()
        following = self._file.pages[0].offset
        while following:
            if following in seen:
                raise ValueError(f"page {len(offsets)} leads back to an earlier one")
            if following >= file.size:
                raise ValueError(f"the pages after number {len(offsets)} are missing")
            offsets.append(following)
            seen.add(following)
            file.seek(following)
            (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            if tags > _MOST_TAGS:
                raise ValueError(f"page {len(offsets)} claims {tags} tags")
            file.seek(tags * layout.tagsize, 1)
            (following,) = struct.unpack(
                layout.offsetformat, file.read(layout.offsetsize)
            )
        return offsets

    def _contiguous_volume(self, page: tifffile.TiffPage) -> np.ndarray | None:
        """Maps a stack that describes its first page only, as ImageJ writes large ones."""
        if not (page.is_imagej or page.is_shaped):
            return None
        series = self._file.series[0]
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


def _as_plane(page: tifffile.TiffPage, values: np.ndarray) -> Stored:
    """A plane by its description and its values, of the axes of the page."""
    if page.axes not in _AXES:
        return Stored(np.zeros((0, 0)), "other")
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    kind, samples = _KIND_OF_PHOTOMETRIC.get(page.photometric, ("other", 1))
    alpha = None
    if kind == "grey" and page.bitspersample == 1:
        kind = "bilevel"
    if page.samplesperpixel == samples + 1 and page.extrasamples[:1] in _ALPHAS:
        alpha = values[..., samples]
        values = values[..., 0] if samples == 1 else values[..., :samples]
    elif page.samplesperpixel > samples and kind == "rgb":
        kind = "extra"
    elif page.samplesperpixel < samples:
        kind = "other"
    return Stored(
        values,
        kind,
        alpha=alpha,
        inverted=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        orientation=known_orientation(page.tags.valueof(TAG, 1)),
    )


def _pixels_per_unit(page: tifffile.TiffPage) -> tuple[float, float]:
    """Resolution down and across, 0 where it is not stated."""
    down, across = (page.tags.valueof(code) for code in (283, 282))
    return _ratio(down), _ratio(across)


def _ratio(value: object) -> float:
    match value:
        case (int() as numerator, int() as denominator) if denominator:
            return numerator / denominator
    return 0.0


def _imagej_names(page: tifffile.TiffPage, channels: int) -> tuple[str, ...]:
    """The names of channels, which ImageJ keeps as labels of the first planes."""
    details = page.tags.valueof(_IMAGEJ_DETAILS)
    labels = details.get("Labels") if isinstance(details, dict) else None
    if not isinstance(labels, list):
        return ()
    names = tuple(str(label).strip() for label in labels[:channels])
    if any(_OF_ONE_PLANE.search(name) for name in names):
        return ()
    return names if all(names) and len(set(names)) == channels > 1 else ()


def _compression(page: tifffile.TiffPage) -> str:
    return getattr(page.compression, "name", str(page.compression))
