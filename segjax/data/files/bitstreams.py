"""Facts in the headers of compressed bytes: whether they keep values, and their size.

Labels must come back as they were; what cannot be decided is as bad as a loss. The functions
take the first bytes of a bitstream; they return None where something cannot be decided.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

HEAD = 1 << 16
"""Bytes of a bitstream that are enough to decide."""

_JPEG_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
"""Markers of lossless JPEG's frames (ITU-T T.81, table B.1)."""

_JPEG_LS = 0xF7
"""That of JPEG-LS, which may be near-lossless."""

_JPEG_LOSSY = (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE)
_JPEG_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The end of a scan: a marker that is neither stuffing nor one that restarts."""

_FILLER = b"".join(
    restart + bytes(range(1, 255, 4))
    for restart in (b"", *(bytes((0xFF, 0xD0 + i)) for i in range(8)))
)
_LERC_INTEGERS = range(6)
_LERC_ROUNDING = 0.5


def webp_keeps_values(file: BinaryIO) -> bool | None:
    """Walks the chunks of a WebP to its pixels: "VP8L" keeps values, "VP8 " does not.

    Args:
      file: an open file, at its start.

    Returns:
      Whether values are kept; None where no pixels are found, or an animation.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        return None
    kept = None
    while len(chunk := file.read(8)) == 8:
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"VP8 ":
            return False
        if name == b"VP8L":
            kept = True
        if name == b"ANMF":
            return None
        file.seek(size + size % 2, 1)
    return kept


def jpeg_keeps_values(data: bytes) -> bool | None:
    """Looks for the frame of a JPEG: only its lossless process keeps values."""
    marker, _ = _jpeg_frame(data)
    if marker in _JPEG_LOSSLESS:
        return True
    return False if marker in _JPEG_LOSSY else None


def _jpeg_frame(data: bytes) -> tuple[int, tuple[int, int] | None]:
    """Returns the marker of a JPEG's frame, and its height and width."""
    for marker, body in _segments(data, start=2):
        if marker in (*_JPEG_LOSSLESS, *_JPEG_LOSSY, _JPEG_LS) and len(body) > 4:
            return marker, struct.unpack_from(">HH", body, 1)
    return 0, None


def require_all_scans(data: bytes) -> None:
    """Raises ValueError where a progressive JPEG lacks scans, which only make it finer."""
    left: dict[int, np.ndarray] = {}
    for marker, body in _segments(data, start=2):
        if marker in _JPEG_PROGRESSIVE:
            left = {number: np.full(64, 14) for number in body[6::3]}
    place = -1
    while left and (place := data.find(_SCAN, place + 1)) >= 0:
        (length,) = struct.unpack_from(">H", data.ljust(place + 4), place + 2)
        scan = data[place + 4 : place + 2 + length]
        if scan and length == 6 + 2 * scan[0] == len(scan) + 2:
            first, last, precision = scan[-3:]
            for number in scan[1:-3:2]:
                if number in left:
                    left[number][first : last + 1] = precision & 15
    if any(bits.any() for bits in left.values()):
        raise ValueError("scans are missing")


def with_filler(data: bytes) -> bytes:
    """Puts bytes without a meaning behind the first scan of a JPEG.

    A decoder skips them where the scan is whole. Where it is not, it takes them for the
    pixels that are missing, of which it would say nothing.
    """
    marker = _MARKER.search(data, _scan_start(data))
    place = marker.start() if marker else len(data)
    return data[:place] + _FILLER + data[place:]


def ends_early(data: bytes) -> bool:
    """Whether something follows what a JPEG has as the mark of its end."""
    return 0 <= data.find(b"\xff\xd9", _scan_start(data)) < len(data) - 2


def _scan_start(data: bytes) -> int:
    place = 2
    for marker, body in _segments(data, start=2):
        place += 4 + len(body)
        if marker == _SCAN[1]:
            return place
    return len(data)


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 16:
        return None
    width, height = struct.unpack_from(">II", data, start + 8)
    return height, width


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def jpeg2000_keeps_values(data: bytes) -> bool | None:
    """Looks at the wavelet and the quantisation of a JPEG 2000 codestream.

    The 9/7 wavelet rounds, the 5/3 wavelet with quantisation style 0 does not
    (ITU-T T.800, tables A.20 and A.28). A codestream of the latter that was cut to a rate,
    which no common program does to labels, is not distinguished from a whole one.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return None
    wavelet = style = None
    for marker, body in _segments(data, start=start + 2):
        if marker == 0x52 and len(body) > 9:
            wavelet = body[9]
        elif marker == 0x5C and body:
            style = body[0] & 31
        elif marker in (0x53, 0x5D):  # each component has its own
            return None
        elif marker == 0x90:
            break
    if wavelet is None or style is None:
        return None
    return wavelet == 1 and style == 0


def lerc_keeps_values(data: bytes) -> bool | None:
    """Compares the largest error that a LERC blob allows with what integers bear."""
    if data[:1] == b"x":
        try:
            data = zlib.decompressobj().decompress(data, HEAD)
        except zlib.error:
            return None
    if data[:6] != b"Lerc2 " or len(data) < 10:
        return None
    (version,) = struct.unpack_from("<i", data, 6)
    integers = 10 + (4 if version >= 3 else 0) + 4 * (3 if version >= 4 else 2)
    try:
        _, _, _, kind = struct.unpack_from("<4i", data, integers)
        (error,) = struct.unpack_from("<d", data, integers + 16)
    except struct.error:
        return None
    return error <= (_LERC_ROUNDING if kind in _LERC_INTEGERS else 0.0)


def _segments(data: bytes, *, start: int) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of the segments of JPEG and JPEG 2000."""
    place = start
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + max(length, 2)


_JPEG_NAMES = ("JPEG", "OJPEG", "ALT_JPEG", "JPEG_LOSSY")
_JPEG2000_NAMES = (
    "JPEG2000",
    "JPEG_2000_LOSSY",
    "APERIO_JP2000_YCBC",
    "APERIO_JP2000_RGB",
)

KEEPS_VALUES: dict[str, Callable[[bytes], bool | None]] = {
    **dict.fromkeys(_JPEG_NAMES, jpeg_keeps_values),
    **dict.fromkeys(_JPEG2000_NAMES, jpeg2000_keeps_values),
    "LERC": lerc_keeps_values,
    "WEBP": lambda data: webp_keeps_values(io.BytesIO(data)),
}
"""Deciders by the name of a TIFF's compression."""

SIZES: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    **dict.fromkeys(_JPEG_NAMES, lambda data: _jpeg_frame(data)[1]),
    **dict.fromkeys(_JPEG2000_NAMES, _jpeg2000_size),
    "PNG": _png_size,
}
"""Readers of the height and width of a strip or tile, by the name of a TIFF's compression: where
the decoder would make room for whatever the bytes claim."""

_FAX = ("CCITTRLE", "CCITTFAX3", "CCITTFAX4", "CCIRLEW")
_ZLIB = ("ADOBE_DEFLATE", "DEFLATE", "PIXTIFF", "PNG")
_OTHERS = ("NONE", "LZW", "PACKBITS", "LZMA", "ZSTD", "ZSTD_DEPRECATED")
ALWAYS_KEEP = (*_FAX, *_ZLIB, *_OTHERS)
"""Compressions of TIFF that cannot lose anything."""


def loss_of(subject: str, kept: bool | None) -> str:
    """Says what is wrong with a compression, nothing where values are kept.

    Example:
      >>> loss_of("is a JPEG", False)
      'is a JPEG, which changes values near edges'
    """
    if kept:
        return ""
    if kept is None:
        return f"{subject}, for which it cannot be decided whether values are kept"
    return f"{subject}, which changes values near edges"
