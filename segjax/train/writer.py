"""What a run leaves behind for programs: JSON lines, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.metrics import without_nan
from segjax.output.files import whole_file

Row = dict[str, Any]

LOG = "metrics.jsonl"


class Writer:
    """The log of one run, `metrics.jsonl` and `tensorboard/`.

    A row has `step`, `split` ("train", "validation", ...) and numbers. Rows after the
    step from which a run resumes are dropped, as the resumed run writes them anew.
    """

    def __init__(self, workdir: Path, resumed_from: int = 0):
        from tensorboardX import SummaryWriter

        self.path = workdir / LOG
        kept = [row for row in read_rows(self.path) if row["step"] <= resumed_from]
        with whole_file(self.path) as file:
            file.write("".join(json_line(row) for row in kept).encode())
        self._file = self.path.open("a")
        folder = str(workdir / "tensorboard")
        self._board = SummaryWriter(folder, purge_step=resumed_from + 1)

    def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
        """Adds a row, and flushes it."""
        self._file.write(json_line({"step": step, "split": split, **values}))
        self._file.flush()
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self._board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()


def read_rows(path: Path) -> list[Row]:
    """Reads a log; lines that are no rows, such as a last one cut short, are left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return [row for row in rows if isinstance(row.get("split"), str)]


def json_line(row: Row) -> str:
    """Writes a row as JSON on one line; NaN, which JSON does not know, as null."""
    return json.dumps(without_nan(row)) + "\n"
