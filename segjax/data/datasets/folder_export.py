"""Writing a split as a folder of images and labels, which `folder` reads again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.data.datasets.folder import SPLITS
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.output.manifest import Manifest, folded
from segjax.types import Record

PARTS = {"images": "image", "labels": "label"}
"""The folders that are made, and what of a record each of them holds."""


def export(
    records: Sequence[Record],
    folder: Path,
    *,
    source: str | Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes `images/NAME` and `labels/NAME`: PNG, or TIFF for 16-bit images.

    Labels hold class ids. A name such as "test/003" becomes the stem `test_003`. Records
    are read twice, first for the names of all files, which are checked together. Files are
    written aside and renamed when all are whole, so none is ever half there.

    Args:
      records: a split of a data set; records without label give an image only.
      folder: where `images/` and `labels/` are made.
      source: the folder of the user that the data set is read from, where there is one.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.

    Returns:
      The image files.

    Raises:
      UserError: if two names would become one file, the folder is that of the data set
        or cannot be written, holds an earlier export of something else, or a file would be
        replaced that belongs to the user.
    """
    if source is not None:
        _require_another_folder(folder, Path(source))
    inputs = () if source is None else _files_below(Path(source), besides=folder)
    planned = list(_planned(records))
    _require_no_others(folder, {folded(name) for name, _ in planned})
    outputs = Outputs(
        folder,
        planned,
        inputs=inputs,
        flag="--write_images",
        overwrite=overwrite,
    )
    outputs.make_folder()
    try:
        with tempfile.TemporaryDirectory(prefix=".incomplete-", dir=folder) as aside:
            written = _write_all(records, Path(aside))
            for part in PARTS:
                (folder / part).mkdir(exist_ok=True)
            placed = [
                outputs.place(f"{file.parent.name}/{file.name}", file)
                for file in written
            ]
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another folder."
        ) from error
    return [file for file in placed if file.parent.name == "images"]


def _require_another_folder(folder: Path, source: Path) -> None:
    """Refuses the folder of the data, and those of the splits that it may consist of."""
    for place in (source, *(source / split for split in SPLITS)):
        if folder.exists() and place.exists() and folder.samefile(place):
            raise UserError(
                f"--write_images={folder} is the folder of the data set, whose files would be "
                "overwritten or mixed with others. Give another folder."
            )


def _require_no_others(folder: Path, planned: set[str]) -> None:
    """Refuses a folder that holds another split, which `folder` would read together with this."""
    manifest = Manifest(folder)
    others = [
        path
        for part in PARTS
        for path in sorted((folder / part).glob("*"))
        if folded(f"{part}/{path.name}") not in planned and manifest.knows(path)
    ]
    if others:
        count = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        raise UserError(
            f"{others[0]}{count} of an earlier export and not of this split: they would be "
            "mixed. Give each split a folder of its own, with --write_images."
        )


def _files_below(source: Path, besides: Path) -> Iterator[Path]:
    """All files of a data set, behind links, too, but for what an export within it wrote."""
    export = Path(os.path.realpath(besides))
    manifest = Manifest(export)
    waiting, seen = [str(source)], set[str]()
    while waiting:
        place = os.path.realpath(waiting.pop())
        if place in seen or not os.access(place, os.R_OK | os.X_OK):
            continue
        seen.add(place)
        for path in Path(place).iterdir():
            if path.is_dir():
                waiting.append(str(path))
            elif not (path.is_relative_to(export) and manifest.knows(path)):
                yield path


def _planned(records: Sequence[Record]) -> Iterator[tuple[str, object]]:
    """Names the files of all records, and what each is made of."""
    for i in range(len(records)):
        record = records[i]
        for part, key in PARTS.items():
            if key in record:
                yield f"{part}/{_name(record, key)}", f"record {record['name']!r}"


def _name(record: Record, key: str) -> str:
    suffix = ".png" if np.asarray(record[key]).dtype == np.uint8 else ".tif"
    return f"{record['name'].replace('/', '_')}{suffix}"


def _write_all(records: Sequence[Record], aside: Path) -> list[Path]:
    """Writes all records below `aside`, into folders of the final names."""
    for part in PARTS:
        (aside / part).mkdir()
    written = []
    for i in range(len(records)):
        record = records[i]
        for part, key in PARTS.items():
            if key in record:
                written.append(aside / part / _name(record, key))
                _write(written[-1], np.asarray(record[key]))
    return written


def _write(path: Path, pixels: np.ndarray) -> None:
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, compression="zlib")
