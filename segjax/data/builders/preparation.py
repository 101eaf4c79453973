"""Running a TFDS builder so that nobody notices it: quietly, and safe to run twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from segjax.types import Record, UserError

FILE_FORMAT = "array_record"
"""The one format that TFDS reads at random without TensorFlow."""

_LEFTOVER_AGE = 3600.0  # seconds; nothing here takes nearly so long to prepare


class Records(Sequence[Record]):
    """One prepared split, read at random: `image`, `label`, `name` and what else it has.

    TFDS hands strings over as bytes; here they are `str`. Arrays are read-only.

    Args:
      source: What `DatasetBuilder.as_data_source` returned.
    """

    def __init__(self, source: Sequence[Any]) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        record = dict(self._source[int(index) % len(self)])
        if isinstance(record.get("name"), bytes):
            record["name"] = record["name"].decode()
        return record


def prepare(
    builder: tfds.core.DatasetBuilder, *, manual_dir: str | None = None
) -> dict[str, Records]:
    """Writes the data set unless it is there, and opens all its splits.

    TFDS writes into a folder `incomplete.*` and renames it when all is done, so a
    killed preparation leaves no half data set. Of two processes that prepare at once
    each writes its own folder; the rename of the later one fails, since the name is
    taken, and it reads what the first one wrote. Folders that a killed process left
    are removed when they are older than an hour.

    Args:
      builder: The builder, made with `file_format=FILE_FORMAT`.
      manual_dir: Folder of files that a person put there.

    Returns:
      The records of each split by its name.

    Raises:
      UserError: If the folder cannot be written.
    """
    with _quiet():
        if not builder.data_path.exists():
            _remove_leftovers(Path(os.fspath(builder.data_path)).parent)
            options = tfds.download.DownloadConfig(manual_dir=manual_dir)
            try:
                builder.download_and_prepare(download_config=options)
            except OSError as error:
                if not builder.data_path.exists():
                    raise UserError(
                        f"The data set {builder.name} cannot be written to "
                        f"{builder.data_path} ({error.strerror or error}). Make room "
                        "there, or name another folder with --data_dir."
                    ) from error
                # Another process was first; this one's idea of the files is outdated.
                builder.info.read_from_directory(builder.data_path)
        return {
            name: Records(builder.as_data_source(name)) for name in builder.info.splits
        }


def _remove_leftovers(folder: Path) -> None:
    """Removes folders of preparations that were killed, if they are old."""
    for leftover in folder.glob("incomplete.*"):
        with contextlib.suppress(OSError):  # someone else may be removing it too
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
                shutil.rmtree(leftover)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bars of TFDS, and what it logs short of errors."""
    tfds.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
