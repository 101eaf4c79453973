"""`index.csv`: the split of each image of a folder, and what else is said of it there."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Sequence
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


def has_splits(path: Path) -> bool:
    """Whether `index.csv` has a column of splits, and not only others, such as groups."""
    return "split" in _table(path)[0]


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
    columns, rows = _table(path)
    if "split" not in columns:
        raise _missing_columns(path)
    for line, row in rows:
        if (split := _split(row["split"])) not in SPLITS:
            raise UserError(
                f"{path}, line {line}: the split is {split!r}; it must be one of "
                f"{', '.join(SPLITS)}."
            )
    splits: dict[str, list[Page]] = {}
    for name, value in (column_of(path, list(files), "split") or {}).items():
        splits.setdefault(_split(value), []).extend(files[name])
    return {split: splits[split] for split in SPLITS if split in splits}


def column_of(path: Path, names: Sequence[str], column: str) -> dict[str, str] | None:
    """Reads what a column of `index.csv` has for each image.

    Args:
      path: the table, with the column `id`, the name of an image.
      names: of all images.
      column: name of the column; capital and small letters do not differ.

    Returns:
      The value of each image, in the order of the file; None where there is no such column.

    Raises:
      UserError: an image is unknown, or listed twice or not at all.
    """
    columns, rows = _table(path)
    if column.lower() not in columns:
        return None
    found: dict[str, str] = {}
    known = set(names)
    for line, row in rows:
        listed = row["id"]
        name = unicodedata.normalize("NFC", listed)
        if name not in known and Path(name).suffix.lower() in SUFFIXES:
            name = name_of(Path(name), Path())
        if name not in known:
            raise UserError(
                f"{path}, line {line}: {listed} is listed, but there is no such "
                "image in images/. Put it there, or remove the line."
            )
        if name in found:
            raise UserError(f"{path}, line {line}: {name} is listed twice.")
        found[name] = row[column.lower()]
    unlisted = sorted(known - found.keys())
    if unlisted:
        raise UserError(
            f"images/ holds {unlisted[0]}, one of {len(unlisted)} images that {path} does "
            "not list. Add a line for each, or remove them."
        )
    return found


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, and line and cells of the rows, whichever way a spreadsheet wrote them."""
    lines = read_lines(path)
    declared = _DELIMITER.fullmatch(lines[0]) if lines else None
    skipped = 0 if declared is None else 1
    first = lines[skipped] if len(lines) > skipped else ""
    delimiter = max(_DELIMITERS, key=first.count) if declared is None else declared[1]
    rows = csv.reader(lines[skipped:], delimiter=delimiter)
    found = []
    try:
        columns = [cell.strip().lower() for cell in next(rows, [])]
        if "id" not in columns:
            raise _missing_columns(path)
        line = skipped + rows.line_num + 1
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                padded = [*cells, *[""] * (len(columns) - len(cells))]
                found.append((line, dict(zip(columns, padded, strict=False))))
            line = skipped + rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} is not a table ({error}). Save it as CSV.") from None
    return columns, found


def _split(value: str) -> str:
    lower = value.lower()
    return _ALIASES.get(lower, lower)


def _missing_columns(path: Path) -> UserError:
    return UserError(f"{path} needs a first line with the columns id and split.")
