"""Archives of arrays, NumPy's .npz, read so that what a file claims is checked first.

`numpy.load` makes room for whatever a header claims, and unpacks whatever is packed. Here
the claims of the archive and those of each array have to agree with one another and with
the size of the file, before anything is unpacked.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

SUFFIX = ".npy"

PACKED = 20
"""Contents may be this many times as large as their file. Weights hardly get smaller by
packing, and zeros, which do, are few."""

DEFLATED = 1032
"""Deflate, which `numpy.savez_compressed` packs with, makes nothing smaller than by this
factor."""

SLACK = 1 << 28
"""So many bytes are never too many."""

KINDS = "fiubc"
"""Kinds of values that are numbers."""


class ObjectsError(ValueError):
    """An array holds Python objects."""


class KindError(ValueError):
    """An array holds no numbers."""


class PackedError(ValueError):
    """An archive would unpack to far more than weights do; ends a sentence on the file."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an archive.

    Args:
      path: the file.

    Returns:
      Arrays by name.

    Raises:
      ObjectsError: if they would have to be unpickled.
      KindError: if one is not of numbers.
      PackedError: if it is whole as far as one can tell, and packed too well.
      Exception: of any kind, for a file that is damaged or claims what cannot be.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        claimed = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        if PACKED * path.stat().st_size + SLACK < claimed <= DEFLATED * packed:
            raise PackedError(
                f"unpacks to {claimed:,} bytes, more than {PACKED} times its size, as "
                "weights do not"
            )
        check_claim(claimed, path)
        arrays: dict[str, np.ndarray] = {}
        for member in members:
            name = member.filename.removesuffix(SUFFIX)
            if name in arrays:
                raise ValueError(f'it holds "{name}" twice')
            arrays[name] = _read_array(archive, member)
    return arrays


def check_claim(claimed: int, path: Path) -> None:
    """Checks that a file can hold as much as it says.

    Args:
      claimed: bytes of what it holds, unpacked.
      path: the file.

    Raises:
      ValueError: if it cannot, unless it is packed far better than weights can be.
    """
    size = path.stat().st_size
    if claimed > PACKED * size + SLACK:
        raise ValueError(f"its {size:,} bytes claim to hold {claimed:,}")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Reads one array, once its header is found to fit the size of the member."""
    # Of versions of the header that Python 2 wrote, NumPy warns.
    with archive.open(member) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, dtype = _header(file)
        start = file.tell()
    if dtype.hasobject:
        raise ObjectsError(member.filename)
    if dtype.kind not in KINDS or dtype.subdtype:
        raise KindError(f"{dtype} values in {member.filename}")
    claimed = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or claimed != member.file_size - start:
        raise ValueError(
            f"the header of {member.filename} claims {claimed:,} bytes, and there are "
            f"{member.file_size - start:,}"
        )
    with archive.open(member) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # At its end, the archive compares the checksum.
    return array


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Reads shape and dtype of an array, as `numpy.lib.format` does."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"a header of version {version}")
    shape, _, dtype = read(file)
    return shape, dtype
