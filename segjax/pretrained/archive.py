"""Archives that hold one model: known members, stored as they are, each with its digest.

The archive is a zip file in one form only: members without compression and without extra
fields, and nothing before, between or after them. So its size is known from theirs, nothing
in it can grow when it is read, and `unzip` and `sha256sum --check SHA256SUMS` read it, too.
Nothing is ever unpacked onto a disk.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from segjax.errors import UserError, shown
from segjax.text_files import is_fault_of_machine, require_content, unreadable

SUFFIX = ".segjax"
"""The ending of a model file."""

CARD = "README.md"
CONFIG = "config.json"
MODEL = "model.json"
WEIGHTS = "weights.safetensors"
DIGESTS = "SHA256SUMS"

LARGEST = {CARD: 1 << 20, CONFIG: 1 << 20, MODEL: 1 << 20, WEIGHTS: 2_000_000_000}
"""The members beside the digests, and the most bytes of each. A larger archive than of 2 GiB
would need the fields of Zip64."""

_NAMES = (*LARGEST, DIGESTS)
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same model is the same file."""

_END = struct.Struct("<4s4H2LH")
_LOCAL_HEADER, _DIRECTORY_ENTRY = 30, 46
"""Bytes of each besides the name."""


def write_archive(
    file: IO[bytes],
    members: Mapping[str, bytes],
    largest: Mapping[str, int] = LARGEST,
) -> None:
    """Writes the members and their digests.

    Args:
      file: to be written, from its beginning.
      members: bytes by name, those of `largest`.
      largest: the members that there are, and the most bytes of each.

    Raises:
      ValueError: a member is missing, unknown or too large.
    """
    if members.keys() != largest.keys():
        raise ValueError(f"members must be {list(largest)}, got {list(members)}")
    for name, content in members.items():
        if len(content) > largest[name]:
            raise ValueError(
                f"{name} has {len(content):,} bytes; at most {largest[name]:,} have room"
            )
    digests = "".join(f"{_sha256(members[name])}  {name}\n" for name in largest)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (*members.items(), (DIGESTS, digests.encode())):
            member = zipfile.ZipInfo(name, _DATE)
            member.create_system = 3  # so that the rights are those of Unix everywhere
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)


def read_archive(path: Path) -> dict[str, bytes]:
    """Reads the members, once the archive is found to be what `write_archive` makes.

    Args:
      path: the file.

    Returns:
      Bytes by name, without the digests.

    Raises:
      UserError: it cannot be read, was cut or changed, or is another kind of file.
    """
    try:
        with path.open("rb") as file:
            require_content(file.read(64), path)
            _check_end(file)
            with zipfile.ZipFile(file) as archive:
                _check_members(archive.infolist(), path.stat().st_size)
                found = {name: archive.read(name) for name in _NAMES}
        _check_digests(found.pop(DIGESTS), found)
    except UserError:
        raise
    except Exception as error:  # damaged archives make `zipfile` raise many kinds
        if is_fault_of_machine(error):
            raise unreadable(path, error) from None
        if isinstance(error, MemoryError):
            raise UserError(
                f"{path} does not fit into this machine's memory."
            ) from None
        raise UserError(
            f"{path} is not a whole model file ({_reason(error)}). Copy it again, or write "
            "it anew with segjax export."
        ) from None
    return found


def _check_end(file: IO[bytes]) -> None:
    """Checks the last record, before the list of members is read that it speaks of."""
    size = file.seek(0, 2)
    if size < _END.size:
        raise ValueError(f"it has {size} bytes")
    file.seek(size - _END.size)
    mark, _, _, here, count, length, _, comment = _END.unpack(file.read())
    if mark != b"PK\5\6" or comment:
        raise ValueError("it does not end as a model file does")
    names = sum(_DIRECTORY_ENTRY + len(name) for name in _NAMES)
    if (here, count, length) != (len(_NAMES), len(_NAMES), names):
        raise ValueError(
            f"it has {count} members, which are not {', '.join(_NAMES)}; of what a newer "
            "segjax wrote, a newer one can read"
        )


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Checks names, kinds and sizes of the members, and that there is nothing beside them."""
    names = [member.filename for member in members]
    if sorted(names) != sorted(_NAMES):
        raise ValueError(
            f"it holds {shown(names)}, where {', '.join(_NAMES)} belong, each once"
        )
    expected = _END.size
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ValueError(f"its {member.filename} is a link or a folder")
        if member.flag_bits & 0x1:
            raise ValueError(f"its {member.filename} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its {member.filename} is compressed")
        if member.file_size > LARGEST.get(member.filename, 4096):
            raise ValueError(f"its {member.filename} has {member.file_size:,} bytes")
        expected += member.file_size + 2 * len(member.filename)
        expected += _LOCAL_HEADER + _DIRECTORY_ENTRY
    if size != expected:
        raise ValueError(f"it has {size:,} bytes, and its members make {expected:,}")


def _check_digests(listed: bytes, members: Mapping[str, bytes]) -> None:
    """Compares the members with the digests."""
    expected = {f"{_sha256(content)}  {name}" for name, content in members.items()}
    lines = listed.decode("ascii").splitlines()
    for name in members:
        found = [line for line in lines if line.endswith(f"  {name}")]
        if len(found) != 1 or found[0] not in expected:
            raise ValueError(f"its {name} is not the one that {DIGESTS} lists")
    if len(lines) != len(members):
        raise ValueError(f"its {DIGESTS} lists more than there is")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(" .:")
