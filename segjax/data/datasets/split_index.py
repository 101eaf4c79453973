"""`index.csv`: the split of each image of a folder."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from segjax.data.datasets.pairing import SPLITS, Page
from segjax.data.files.listing import SUFFIXES, name_of
from segjax.errors import UserError
from segjax.text_files import read_lines

INDEX = "index.csv"
_ALIASES = {"val": "validation", "valid": "validation"}
_DELIMITERS = ",;\t"
_DELIMITER = re.compile(r'"?sep=([,;|\t])"?', re.IGNORECASE)
"""A first line that declares the delimiter to Excel."""


def index_of(root: Path) -> Path | None:
    """The file that names the split of each image, where a folder has one."""
    return root / INDEX if (root / INDEX).is_file() else None


def listed_splits(path: Path, pages: Sequence[Page]) -> dict[str, list[Page]]:
    """Sorts pages into the splits that `index.csv` gives their images.

    Args:
      path: a table with the columns `id`, the name of an image, and `split`.
      pages: all pages of all images.

    Returns:
      The pages of each split, in the order of the file.

    Raises:
      UserError: a column is missing, a split or an image is unknown, or an image is
        listed twice or not at all.
    """
    files: dict[str, list[Page]] = {}
    for page in pages:
        files.setdefault(page.pair.name, []).append(page)
    listed = _read_index(path, list(files))
    return {
        split: [page for name in names for page in files[name]]
        for split, names in listed.items()
    }


def _read_index(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Images of each split, in the order of the file."""
    splits: dict[str, list[str]] = {}
    known, seen = set(names), set()
    for number, (listed, split) in _index_rows(path):
        split = _ALIASES.get(split, split)
        if split not in SPLITS:
            raise UserError(
                f"{path}, line {number}: the split is {split!r}; it must be one of "
                f"{', '.join(SPLITS)}."
            )
        name = unicodedata.normalize("NFC", listed)
        if name not in known and Path(name).suffix.lower() in SUFFIXES:
            name = name_of(Path(name), Path())
        if name not in known:
            raise UserError(
                f"{path}, line {number}: {listed} is listed, but there is no such "
                "image in images/. Put it there, or remove the line."
            )
        if name in seen:
            raise UserError(f"{path}, line {number}: {name} is listed twice.")
        seen.add(name)
        splits.setdefault(split, []).append(name)
    unlisted = sorted(known - seen)
    if unlisted:
        raise UserError(
            f"images/ holds {unlisted[0]}, one of {len(unlisted)} images that {path} does "
            "not list. Add a line for each, or remove them."
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _index_rows(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yields line, id and split of the rows, whichever way a spreadsheet wrote them."""
    lines = read_lines(path)
    declared = _DELIMITER.fullmatch(lines[0]) if lines else None
    skipped = 0 if declared is None else 1
    first = lines[skipped] if len(lines) > skipped else ""
    delimiter = max(_DELIMITERS, key=first.count) if declared is None else declared[1]
    rows = csv.reader(lines[skipped:], delimiter=delimiter)
    try:
        columns = [cell.strip().lower() for cell in next(rows, [])]
        if not {"id", "split"} <= set(columns):
            raise UserError(f"{path} needs a first line with the columns id and split.")
        places = columns.index("id"), columns.index("split")
        line = skipped + rows.line_num + 1
        for row in rows:
            if any(cell.strip() for cell in row):
                name, split = (row[i].strip() if i < len(row) else "" for i in places)
                yield line, (name, split if split in SPLITS else split.lower())
            line = skipped + rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} is not a table ({error}). Save it as CSV.") from None
