"""TIFF files, page by page, through tifffile."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from types import TracebackType

import numpy as np
import tifffile

from segjax.data.stored import Stored, require_pixels
from segjax.types import UserError

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
        require_pixels(self._path, page.imagewidth, page.imagelength)
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


def _alpha(extrasamples: tuple[int, ...]) -> bool:
    return any(
        extra in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
        for extra in extrasamples
    )
