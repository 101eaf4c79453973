"""Text and JSON from files that anybody may have written: decoded, parsed, or a sentence."""

from __future__ import annotations

import codecs
import errno
import json
import stat
from pathlib import Path
from typing import Any

from segjax.errors import UserError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks that editors and Excel put first, and the encoding after each."""


_OF_FILES = (None, errno.ENOENT, errno.EINVAL)
_POINTER = b"version https://git-lfs"


def require_content(raw: bytes, where: str | Path) -> None:
    """Raises `UserError` where git has left a note in place of a large file.

    Args:
      raw: how a file begins.
      where: the file, for the message.
    """
    if raw.startswith(_POINTER):
        raise UserError(
            f"{where} is a git-LFS pointer, not the file itself. Run `git lfs pull` in its "
            "repository."
        )


def decode_text(raw: bytes, where: str | Path) -> str:
    """Decodes UTF-8, with or without a byte-order mark, and UTF-16 and UTF-32 with one.

    Args:
      raw: what a file holds.
      where: the file, for the message.

    Returns:
      The text, without the mark.

    Raises:
      UserError: if it is none of them, or a git-LFS pointer.

    Example:
      >>> decode_text(b"\\xef\\xbb\\xbfid,split", "index.csv")
      'id,split'
    """
    require_content(raw, where)
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8")
    )
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not text in {encoding.upper()} (byte {error.start}). Save it "
            "as UTF-8."
        ) from None


def is_fault_of_machine(error: BaseException) -> bool:
    """Whether an error concerns the disk, network or system, and not a file.

    Decoders raise OSErrors without a number for damage, and damaged files make them seek
    where nothing can be (EINVAL).
    """
    return isinstance(error, OSError) and error.errno not in _OF_FILES


def unreadable(what: object, error: BaseException) -> UserError:
    """Returns the error about a file, or several, that the system does not let read."""
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"{what} cannot be read ({reason}). Try again; if it stays so, look at the disk or "
        "network that it lies on."
    )


def read_bytes(path: Path) -> bytes:
    """Reads a file; a pipe, which would be waited for, and a device are refused.

    Raises:
      OSError: it cannot be read.
    """
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    return path.read_bytes()


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file.

    Raises:
      UserError: as `decode_text`, or the file cannot be read.
    """
    try:
        return decode_text(read_bytes(path), path).splitlines()
    except OSError as error:
        raise unreadable(path, error) from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.

    Returns:
      What `json.loads` gives.

    Raises:
      UserError: as `parse_json`, or the file cannot be read.
    """
    try:
        return parse_json(read_bytes(path), path)
    except OSError as error:
        raise unreadable(path, error) from None


def parse_json(raw: bytes, where: str | Path) -> Any:
    """Parses JSON; whatever the bytes are, the outcome is a value or a `UserError`.

    Args:
      raw: what a file holds.
      where: the file, for the message.

    Returns:
      What `json.loads` gives.

    Raises:
      UserError: if it is not JSON, or nested more deeply than Python reads.

    Example:
      >>> parse_json(b'{"images": []}', "a.json")
      {'images': []}
    """
    text = decode_text(raw, where)
    try:
        return json.loads(text)
    except RecursionError:
        reason = "its lists or objects are nested too deeply"
    except ValueError as error:
        reason = str(error)[:200]
    raise UserError(f"{where} is not JSON ({reason}). Replace it with a complete file.")
