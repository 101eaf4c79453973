"""The metrics of a run for other programs: JSON lines, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.metrics import without_nan
from segjax.output.files import whole_file
from segjax.text_files import parse_json, read_bytes
from segjax.training.run_files.workdir import LOG, writing

Row = dict[str, Any]

_LARGEST = sys.float_info.max
"""Integers beyond it cannot be plotted, and no run writes them."""


class Writer:
    """The log of one run, `metrics.jsonl` and `tensorboard/`.

    A row has `step`, `split` ("train", "validation", ...) and numbers. Rows after the
    step from which a run resumes are dropped, as the resumed run writes them anew; all
    other lines stay as they are.

    All is written by the caller's thread, so that the caller learns of a full disk:
    the `SummaryWriter` of tensorboardX loses it in a thread of its own.

    Raises:
      UserError: from each method, if the folder cannot be written.
    """

    FLUSH_SECONDS = 60

    def __init__(self, workdir: Path, resumed_from: int = 0):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.path, self._workdir = workdir / LOG, workdir
        kept = [x for x in _lines(self.path) if not _is_after(x, resumed_from)]
        with writing(workdir):
            with whole_file(self.path) as file:
                file.write(b"".join(line + b"\n" for line in kept))
            self._file = self.path.open("a")
            folder = workdir / "tensorboard"
            folder.mkdir(exist_ok=True)
            self._events, self._flushed = EventsWriter(str(folder / "events")), 0.0
            begins = SessionLog(status=SessionLog.START)  # what came later is dropped
            self._add(Event(step=resumed_from + 1, session_log=begins))

    def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
        """Adds a row, and flushes it."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with writing(self._workdir):
            self._file.write(json_line({"step": step, "split": split, **values}))
            self._file.flush()
            for name, value in values.items():
                if value is not None and math.isfinite(value):
                    named = scalar(f"{split}/{name}", value)
                    self._add(Event(step=step, summary=named))
            if time.monotonic() - self._flushed > self.FLUSH_SECONDS:
                self._events.flush()
                self._flushed = time.monotonic()

    def write_text(self, step: int, name: str, text: str) -> None:
        """Adds a text to TensorBoard, in the letters of a program."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import text as summary

        with writing(self._workdir):
            lines = "\n".join(f"    {line}" for line in text.splitlines())
            self._add(Event(step=step, summary=summary(name, lines)))

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)

    def close(self) -> None:
        """Closes the files."""
        with writing(self._workdir), contextlib.closing(self._events):
            self._file.close()


def read_rows(path: Path) -> list[Row]:
    """Reads a log; lines that are not rows, such as a last one cut short, are left out.

    Raises:
      UserError: if the file may not be read.
    """
    return [row for row in map(_parsed, _lines(path)) if _is_row(row)]


def _lines(path: Path) -> list[bytes]:
    """The lines of a log, without a last one that was cut short.

    Raises:
      UserError: if the file may not be read.
    """
    try:
        *lines, last = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Look at what it is, and at its "
            "permissions."
        ) from error
    return [*lines, last] if _is_row(_parsed(last)) else lines


def _parsed(line: bytes) -> Any:
    """The JSON of a line; None where it is not JSON."""
    with contextlib.suppress(UserError):
        return parse_json(line, LOG)
    return None


def _is_after(line: bytes, step: int) -> bool:
    """Whether a line reports a later step."""
    row = _parsed(line)
    own: Any = row.get("step") if isinstance(row, dict) else None
    return type(own) in (int, float) and own > step


def _is_row(row: Any) -> bool:
    """Whether JSON has a step, a split, and beside them numbers and nulls alone."""
    if not isinstance(row, dict) or not isinstance(row.get("split"), str):
        return False
    numbers = [value for key, value in row.items() if key != "split"]
    return type(row.get("step")) is int and all(map(_is_number_or_none, numbers))


def _is_number_or_none(value: Any) -> bool:
    whole = type(value) is int and abs(value) <= _LARGEST
    return value is None or type(value) is float or whole


def json_line(row: Row) -> str:
    """Writes a row as JSON on one line; NaN, which JSON does not know, as null."""
    return json.dumps(without_nan(row)) + "\n"
