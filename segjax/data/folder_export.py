"""Writing a split as a folder of images and labels, which `folder` reads again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.types import Record, UserError


def export(records: Sequence[Record], folder: Path) -> list[Path]:
    """Writes `images/NAME` and `labels/NAME`: PNG, or TIFF for 16-bit images.

    Labels hold class ids. A name such as "test/003" becomes the stem `test_003`.

    Args:
      records: a split of a data set; records without label give an image only.
      folder: where `images/` and `labels/` are made.

    Returns:
      The image files.

    Raises:
      UserError: if the folder cannot be written.
    """
    images = []
    try:
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for i in range(len(records)):
            record = records[i]
            stem = record["name"].replace("/", "_")
            images.append(_write(folder / "images" / stem, record["image"]))
            if "label" in record:
                _write(folder / "labels" / stem, record["label"])
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another folder."
        ) from error
    return images


def _write(stem: Path, pixels: np.ndarray) -> Path:
    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        path = stem.with_suffix(".png")
        Image.fromarray(pixels).save(path)
    else:
        path = stem.with_suffix(".tif")
        tifffile.imwrite(path, pixels, compression="zlib")
    return path
