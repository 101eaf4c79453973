"""Orientation tags: how a stored picture is to be turned so that it looks as in a viewer.

Cameras and scanners store rows as they come and say by a number from 1 to 8 which way is
up (EXIF and TIFF 6.0, tag 274); labels are drawn on what viewers show.
"""

from __future__ import annotations

import struct

import numpy as np

TAG = 274
_TRANSPOSED = (5, 6, 7, 8)
_FLIPPED_ROWS = (3, 4, 7, 8)
_FLIPPED_COLUMNS = (2, 3, 6, 7)
_START = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_INTEGERS = {3: "H", 4: "I"}


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turns a stored picture so that its first row is the top of what is seen.

    Args:
      values: `[H, W]` or `[H, W, C]` as stored.
      orientation: value of the tag, 1 to 8.

    Returns:
      The picture; `[W, H]` or `[W, H, C]` for 5 to 8.

    Example:
      >>> upright(np.array([[1, 2, 3], [4, 5, 6]]), 6).tolist()
      [[4, 1], [5, 2], [6, 3]]
    """
    if orientation == 1:
        return values
    if orientation in _TRANSPOSED:
        values = values.swapaxes(0, 1)
    if orientation in _FLIPPED_ROWS:
        values = values[::-1]
    if orientation in _FLIPPED_COLUMNS:
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def known_orientation(value: object) -> int:
    """Returns the value of a tag if it is one of the eight, else 1, as viewers do."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def exif_orientation(exif: bytes) -> int:
    """Reads the orientation out of EXIF data.

    Damaged data have none, as viewers have it: the pixels beside them are as good as ever.

    Args:
      exif: what a JPEG, PNG or WebP holds, with or without the word "Exif" in front.

    Returns:
      1 to 8; 1 where nothing is stated.

    Example:
      >>> exif_orientation(b"MM\\0*" + bytes.fromhex("00000008 0001 0112000300000001 0006"))
      6
    """
    exif = exif.removeprefix(_START)
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == TAG and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], exif, place + 8)
                return known_orientation(value)
    except struct.error:
        pass
    return 1
