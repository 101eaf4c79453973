"""Result files that are either complete or not there.

A file is written under a hidden name beside its own and renamed when it is whole. A run
that is killed leaves older results as they were.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.types import UserError
from segjax.viz import palette

Write = Callable[..., None]
"""Adds one page; what else it takes is said by the function that makes it."""

Colors = Sequence[tuple[int, int, int]]

CLASSIC_TIFF_BYTES = 1 << 31
"""Uncompressed bytes from which a TIFF gets 64-bit offsets (BigTIFF)."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes `path` if nothing goes wrong.

    Raises:
      UserError: the folder cannot be written to, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}). Make room or "
            "change the permissions, or give another --output."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def png_file(path: Path, *, colors: Colors | None = None) -> Iterator[Write]:
    """Writes a PNG, whose one page is given to the function that this yields.

    Args:
      path: of the file.
      colors: one per class where the page is class ids `[H, W]` uint8; the file is then
        a palette picture with 8 bits per pixel, whose stored values are the ids.
        Otherwise the page is `[H, W, 3]` uint8.
    """
    with whole_file(path) as partial:

        def write(page: np.ndarray) -> None:
            image = Image.fromarray(page)
            if colors is not None:
                image.putpalette(palette(colors).tobytes())
            image.save(partial, format="PNG")

        yield write


@contextlib.contextmanager
def tiff_file(
    path: Path, *, expected_bytes: int, colors: Colors | None = None
) -> Iterator[Write]:
    """Writes a TIFF page by page, compressed without loss (deflate).

    The function that this yields takes a page, `[H, W]` or `[H, W, 3]`, and `title`, a
    description that is stored with it.

    Args:
      path: of the file.
      expected_bytes: of all pages, uncompressed; decides about BigTIFF.
      colors: one per class where the pages are class ids uint8; they are stored beside
        the ids, as a palette.
    """
    # TIFF wants 16 bits a colour: 257 * 255 = 65535.
    table = None if colors is None else palette(colors).astype(np.uint16).T * 257
    large = expected_bytes > CLASSIC_TIFF_BYTES
    with (
        whole_file(path) as partial,
        tifffile.TiffWriter(partial, bigtiff=large) as file,
    ):

        def write(page: np.ndarray, title: str = "") -> None:
            kind = "rgb" if page.ndim == 3 else "minisblack"
            # Without metadata, pages of one size are one series for those who read it.
            file.write(
                page,
                photometric=kind if table is None else "palette",
                colormap=table,
                compression="zlib",
                metadata=None,
                description=title.encode() or None,
            )

        yield write
