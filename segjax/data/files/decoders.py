"""Opening image files: TIFF through tifffile, OME-Zarr through tensorstore, others through Pillow.

Whether a page is fit to be an image or a label is for `segjax.data.files.images` to judge.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from segjax.data.files.pillow import PillowPages
from segjax.data.files.plane import EXTRA_CODECS, Pages
from segjax.data.files.tiff import TiffPages
from segjax.data.files.zarr import SUFFIX, ZarrPages, is_zarr
from segjax.errors import UserError
from segjax.text_files import is_fault_of_machine, require_content, unreadable

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextlib.contextmanager
def opened(path: Path, *, scan: bool = True) -> Iterator[Pages]:
    """Opens an image file; what goes wrong inside is reported in a sentence.

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
    with decoding(path):
        if is_zarr(path):
            yield ZarrPages(path)
            return
        if path.suffix.lower() == SUFFIX and path.is_dir():
            lacks = "is no Zarr: it lacks zarr.json, or .zattrs"
            what = lacks if any(path.iterdir()) else "is an empty folder"
            raise UserError(f"{path} {what}. Copy it again.")
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait when opened
            raise UserError(f"{path} is not a file. Give the path of an image file.")
        with _Bounded(path) as file:
            start = file.read(26)
            if not start:
                raise UserError(
                    f"{path} is empty (0 bytes). Copy it again or remove it."
                )
            require_content(start, path)
            file.seek(0)
            if start.startswith(_TIFF_STARTS):
                pages = TiffPages(path, file)
                if scan:
                    pages.scan()
                yield pages
            else:
                yield PillowPages(path, file, start)


class _Bounded(io.BufferedReader):
    """A file that makes no more room than it has bytes, whatever length it claims."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        """Reads a number of bytes, or those that are left."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def absent(path: Path) -> UserError:
    """Returns the error about a file that is not there, or is a link to none."""
    if path.is_symlink():
        return UserError(
            f"{path} is a link to {os.readlink(path)}, which does not exist. Put the file "
            "there or remove the link."
        )
    return UserError(f"{path} does not exist. Check the path.")


@contextlib.contextmanager
def decoding(path: Path, where: str = "") -> Iterator[None]:
    """Turns whatever a decoder raises into a `UserError` that names the file.

    Args:
      path: the file.
      where: what to call a page of it, where one is decoded (`page_name`).

    Yields:
      Nothing: what is decoded within the block is meant.

    Raises:
      UserError: what is decoded is missing, damaged, or does not fit into memory.
    """
    where = where or str(path)
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(
            f"{where} does not fit into the memory that is free. Cut it into pieces, or use "
            "a machine with more memory."
        ) from None
    except PermissionError as error:
        raise UserError(
            f"{path} may not be read (permission denied). Change its permissions."
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise absent(path) from error
    except Exception as error:
        if is_fault_of_machine(error):
            raise unreadable(path, error) from error
        # Decoders have no common exception: OSError, SyntaxError, struct.error, KeyError,
        # ValueError, RecursionError, zlib.error and the codecs' own all mean a file that
        # is not whole.
        if "imagecodecs" in str(error) and "requires" in str(error):
            raise UserError(
                f"{path} is compressed in a way that needs a further package: {error}. "
                f"Run `{EXTRA_CODECS}`, or save the file without compression or with "
                "deflate."
            ) from error
        reason = " ".join(str(error).replace(str(path), "it").split())[:120]
        raise UserError(
            f"{where} cannot be decoded: it is truncated or damaged "
            f"({type(error).__name__}: {reason}). Copy it again or remove it."
        ) from error
