"""FlatBuffers, read so that every offset is checked before it is followed.

A FlatBuffer is tables that point into one run of bytes: a table has a list of where its fields
lie, and a field holds a number, or how far on a string, a vector or another table begins
(google.github.io/flatbuffers, "Internals"). Offsets that lead outside end in `FlatBufferError`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


class FlatBufferError(ValueError):
    """The bytes are no whole FlatBuffer; ends a sentence on the file."""


class Table:
    """A table of fields, which have numbers.

    Args:
      data: the bytes of the file.
      position: of the table.

    Raises:
      FlatBufferError: if its list of fields lies outside the file.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self._fields = position - _number(data, "<i", position)
        self._size = _number(data, "<H", self._fields)
        if self._size < 4 or self._fields + self._size > len(data):
            raise FlatBufferError(f"the table at byte {position:,} is cut off")

    def number(self, field: int, kind: str, default: Any = 0) -> Any:
        """Reads a number.

        Args:
          field: which field.
          kind: as `struct` writes it, such as "<i".
          default: where the file leaves the field out.

        Returns:
          The number.
        """
        at = self._at(field)
        return default if at is None else _number(self.data, kind, at)

    def table(self, field: int) -> Table | None:
        """Reads a table; None where the file leaves it out."""
        at = self._target(field)
        return None if at is None else Table(self.data, at)

    def vector(self, field: int, kind: str) -> np.ndarray:
        """Reads a vector of numbers, as a read-only view; empty where it is left out."""
        at = self._target(field)
        if at is None:
            return np.empty(0, kind)
        count, start = _number(self.data, "<I", at), at + 4
        if count * np.dtype(kind).itemsize > len(self.data) - start:
            raise FlatBufferError(f"the vector at byte {at:,} is cut off")
        return np.frombuffer(self.data, kind, count, start)

    def tables(self, field: int, most: int) -> list[Table]:
        """Reads a vector of tables, of which there may be `most`."""
        offsets = self.vector(field, "<u4")
        if len(offsets) > most:
            raise FlatBufferError(
                f"it claims {len(offsets):,} of what {most:,} are many"
            )
        if not len(offsets):
            return []
        start = (self._target(field) or 0) + 4
        return [
            Table(self.data, start + 4 * i + int(offset))
            for i, offset in enumerate(offsets)
        ]

    def text(self, field: int, most: int = 200) -> str:
        """Reads the beginning of a string; empty where it is left out."""
        return bytes(self.vector(field, "u1")[:most]).decode(errors="replace")

    def _at(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        offset = _number(self.data, "<H", self._fields + slot)
        return self.position + offset if offset else None

    def _target(self, field: int) -> int | None:
        at = self._at(field)
        return None if at is None else at + _number(self.data, "<I", at)


def root(data: bytes) -> Table:
    """The table that a file begins with."""
    return Table(data, _number(data, "<I", 0))


def _number(data: bytes, kind: str, position: int) -> Any:
    if not 0 <= position <= len(data) - struct.calcsize(kind):
        raise FlatBufferError(f"an offset leads to byte {position:,} of {len(data):,}")
    return struct.unpack_from(kind, data, position)[0]
