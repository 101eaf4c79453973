"""Writing a split as a folder of images and labels, which `folder` reads again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.types import Record, UserError


def export(records: Sequence[Record], folder: Path) -> list[Path]:
    """Writes `images/NAME` and `labels/NAME`: PNG, or TIFF for 16-bit images.

    Labels hold class ids. A name such as "test/003" becomes the stem `test_003`. Files are
    written aside and renamed when all are whole, so none is ever half there.

    Args:
      records: a split of a data set; records without label give an image only.
      folder: where `images/` and `labels/` are made.

    Returns:
      The image files.

    Raises:
      UserError: if two names would become one file, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incomplete-", dir=folder) as aside:
            written = _write_all(records, Path(aside))
            for part in ("images", "labels"):
                (folder / part).mkdir(exist_ok=True)
            placed = [file.replace(folder / part / file.name) for part, file in written]
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another folder."
        ) from error
    return [file for file in placed if file.parent.name == "images"]


def _write_all(records: Sequence[Record], aside: Path) -> list[tuple[str, Path]]:
    """Writes all records below `aside`; returns "images" or "labels" and the file."""
    for part in ("images", "labels"):
        (aside / part).mkdir()
    names: dict[str, str] = {}
    written = []
    for i in range(len(records)):
        record = records[i]
        name = record["name"]
        stem = name.replace("/", "_")
        if stem in names:
            raise UserError(
                f"The records '{names[stem]}' and '{name}' would both be written as "
                f"'{stem}'. Rename one of them in the data set; nothing was exported."
            )
        names[stem] = name
        for part, key in (("images", "image"), ("labels", "label")):
            if key in record:
                written.append((part, _write(aside / part, stem, record[key])))
    return written


def _write(folder: Path, stem: str, pixels: np.ndarray) -> Path:
    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        path = folder / f"{stem}.png"
        Image.fromarray(pixels).save(path)
    else:
        path = folder / f"{stem}.tif"
        tifffile.imwrite(path, pixels, compression="zlib")
    return path
