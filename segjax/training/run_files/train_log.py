"""The lines that a terminal shows of a run, kept as `train.log` in its folder."""

from __future__ import annotations

import datetime
import logging
import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from segjax.errors import UserError, escape_control
from segjax.training.run_files.workdir import TRAIN_LOG, writing

_CLEARED = "\r\x1b[2K"
"""What a bar of progress is written after; the bars themselves are not kept."""


class TrainLog:
    """Keeps the log of segjax, and what is written to standard error, while it is entered.

    Lines wait until `open` says where they go, as the folder of a run is written once it is
    known that this process may. Where it is never called, they are dropped.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._unfinished = ""

    def __enter__(self) -> TrainLog:
        self._stderr = sys.stderr
        self._logger = logging.getLogger("segjax")
        # A filter, as with another handler Python would not show warnings by itself.
        self._logger.addFilter(self._see)
        sys.stderr = _Copied(self._stderr, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        sys.stderr = self._stderr
        self._logger.removeFilter(self._see)
        if self._unfinished:
            self.copy("\n")
        if isinstance(error, UserError):
            self.line(str(error))
        elif kind is not None:
            self.line(f"Ended by {kind.__name__} {error}".rstrip())
        if self._file is not None:
            self._file.close()

    def open(self, workdir: Path) -> None:
        """Begins to write, after what is there already.

        Raises:
          UserError: if the file cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        with writing(workdir):
            self._file = (workdir / TRAIN_LOG).open("a", encoding="utf-8")
            waiting, self._waiting = self._waiting, []
            for text in (f"--- {now}  {shlex.join(sys.argv)}", *waiting):
                self.line(text)

    def _see(self, record: logging.LogRecord) -> bool:
        """Keeps a message of the log, unless it comes through standard error."""
        if self._logger.hasHandlers():
            self.line(record.getMessage())
        return True

    def line(self, text: str) -> None:
        """Keeps lines; a full disk is reported by what the run has to write."""
        if self._file is None:
            self._waiting.append(text)
            return
        try:
            self._file.write(escape_control(text) + "\n")
            self._file.flush()
        except (OSError, ValueError):
            return

    def copy(self, text: str) -> None:
        """Keeps the lines that end in what was written to a stream."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self.line(line.rpartition(_CLEARED)[2])
        self._unfinished = self._unfinished.rpartition(_CLEARED)[2]


class _Copied:
    """A stream that gives what is written to a `TrainLog`, too."""

    def __init__(self, stream: Any, kept: TrainLog):
        self._stream, self._kept = stream, kept

    def write(self, text: str) -> int:
        self._kept.copy(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
