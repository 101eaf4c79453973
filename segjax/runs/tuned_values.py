"""Of a search for values of a run: the images that it looks at, and keeping what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from segjax.errors import UserError
from segjax.runs.model_file import find_model_file
from segjax.training.run_files.workdir import (
    CONFIG_FILE,
    check_lock,
    check_workdir,
    lock,
    read_config,
    write_config,
)


def spread_places(total: int, wanted: int) -> list[int]:
    """Places of some images, spread evenly from the first to the last; all if there are fewer.

    Example:
      >>> spread_places(10, 4), spread_places(2, 4)
      ([0, 3, 6, 9], [0, 1])
    """
    return [int(i) for i in np.linspace(0, total - 1, min(wanted, total)).round()]


def require_writable(workdir: Path) -> None:
    """Checks, before a search, that its result can be kept.

    Raises:
      UserError: there is no run, or it cannot be written, as a model file cannot.
    """
    if (file := find_model_file(workdir)) is not None:
        raise UserError(
            f"{file} is a model file, which is not changed: leave out --save, or tune the run "
            "that it was exported from, and export that again."
        )
    read_config(workdir)  # says what is wrong where there is no run
    check_workdir(workdir)
    check_lock(workdir)


def keep(workdir: Path, group: str, values: dict[str, Any]) -> None:
    """Writes a group of the config of a run.

    Raises:
      UserError: it cannot be written; what was found is in the message.
    """
    try:
        with lock(workdir):
            config = read_config(workdir)
            config[group] = ml_collections.ConfigDict(values)
            write_config(workdir, config)
    except UserError as error:
        raise UserError(
            f"What was found is not kept: {error} Once that is done, put it into "
            f'{workdir / CONFIG_FILE}: "{group}": {json.dumps(values)}'
        ) from error
