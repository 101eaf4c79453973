"""The checkpoints of a workdir as files: their steps, and the JSON beside each; without Orbax."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.text_files import parse_json
from segjax.training.state import about_sha256

CHECKPOINTS = "checkpoints"


def steps_on_disk(workdir: Path) -> list[int]:
    """The steps of the checkpoints in a workdir, newest first."""
    found = (workdir / CHECKPOINTS).glob("[0-9]*")
    names = (path.name for path in found if path.is_dir())
    return sorted((int(x) for x in names if x.isascii() and x.isdigit()), reverse=True)


def abouts_on_disk(workdir: Path) -> Iterator[dict[str, Any]]:
    """The JSON beside the checkpoints of a workdir, newest first, damaged ones left out.

    It reads files and nothing else, so one process of many may call it.
    """
    for step in steps_on_disk(workdir):
        with contextlib.suppress(OSError, UserError):
            yield read_about(workdir / CHECKPOINTS / str(step))


def read_about(folder: Path) -> dict[str, Any]:
    """Reads the JSON beside a checkpoint.

    Raises:
      OSError: if it cannot be read.
      UserError: if it is not what was saved, or the checkpoint has other than files.
    """
    # Whoever reads a pipe waits for ever, as Orbax would.
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path.name} is not a regular file")
    raw = (folder / "about" / "metadata").read_bytes()
    with contextlib.suppress(UserError):
        about = parse_json(raw, folder)
        if isinstance(about, dict) and about.get("about_sha256") == about_sha256(about):
            return about
    raise UserError("what it says of itself has changed")
