"""The pages of a prediction, dealt out to the processes of a run and put in order again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from segjax.training import sharding

Arrays = Mapping[str, np.ndarray]

_PIECE = 1 << 24
"""Bytes of each process that travel at a time; on accelerators they pass through the memory
of the devices."""


class PageShares:
    """Who predicts which page: of n processes number i takes the pages i, i + n, i + 2 n, ...

    Process 0 gets all of them, and alone writes files. One process takes all pages, and
    nothing is copied.

    Attributes:
      is_main: whether this is process 0.
    """

    def __init__(self) -> None:
        self._count, self._index = sharding.process_count(), sharding.process_index()
        self.is_main = self._index == 0
        self._all_know = False

    def is_mine(self, page: int) -> bool:
        """Whether this process predicts a page, counted from 0 over all files."""
        return page % self._count == self._index

    def ends_turn(self, page: int, total: int) -> bool:
        """Whether a page is the last before each process takes its next one."""
        return (page + 1) % self._count == 0 or page + 1 == total

    def collect(self, mine: Iterator[Arrays], total: int) -> Iterator[Arrays]:
        """Puts the pages of all processes into their order; to be called within `together`.

        Args:
          mine: gives the results of this process's pages, one after the other.
          total: pages of all processes.

        Yields:
          In process 0, the results of all pages, in order; in the others nothing, and they
          are to be asked for it all the same.

        Raises:
          UserError: in each process, if one of them has failed.
        """
        if self._count == 1:
            yield from mine
            return
        for first in range(0, total, self._count):
            own: Arrays = {}
            failure: Exception | None = None
            if first + self._index < total:
                try:
                    own = next(mine)
                except Exception as error:  # the others wait for this page
                    failure = error
            self._agree(failure)
            for content in self._gather(_packed(own))[: total - first]:
                yield _unpacked(content)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Ends the work of all processes when that of one has failed, as writing may.

        Raises:
          UserError: in each process; where the work itself failed, its own error.
        """
        try:
            yield
        except Exception as error:
            if not self._all_know:
                self._agree(error)
            raise
        self._agree(None)

    def _agree(self, failure: Exception | None) -> None:
        try:
            sharding.agree(failure)
        except Exception:
            self._all_know = True
            raise

    def _gather(self, content: bytes) -> list[bytes]:
        """The bytes of each process, in process 0; an empty list in the others."""
        sizes = sharding.gather(np.asarray([len(content)], np.int64))
        parts: list[list[bytes]] = [[] for _ in sizes]
        for start in range(0, int(sizes.max()), _PIECE):
            piece = np.frombuffer(content[start : start + _PIECE], np.uint8)
            everyone = sharding.gather(piece).tobytes()
            if not self.is_main:
                continue
            for part, size in zip(parts, sizes, strict=True):
                length = min(max(int(size) - start, 0), _PIECE)
                part.append(everyone[:length])
                everyone = everyone[length:]
        return [b"".join(part) for part in parts] if self.is_main else []


def _packed(arrays: Arrays) -> bytes:
    file, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(file, **named)
    return file.getvalue()


def _unpacked(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
