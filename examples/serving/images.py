"""Image files as arrays that a program takes, and its labels as pictures.

    image = read_image(file, program)  # PNG, JPEG, WebP, TIFF of one page: what Pillow reads
    png = labels_as_png(program(image), program)

Pillow, NumPy and the loader of programs suffice: segjax/export/loader.py, copied beside this.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import loader
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_DEEP = ("I", "I;16", "F")
"""Modes of Pillow of more than 8 bits; all of them are grey."""


class ImageError(ValueError):
    """An image that cannot be labelled, in one sentence."""


def read_image(file: str | Path | BinaryIO, program: loader.Program) -> np.ndarray:
    """Reads an image with the channels that a program takes.

    It is turned upright by its EXIF tag. Grey images are repeated for a program of three
    channels, and alpha is dropped where all is opaque, as `segjax predict` does.

    Args:
      file: its path, or the opened file.
      program: the program.

    Returns:
      Its pixels as they are stored, `[H, W]` or `[H, W, C]`; the program checks their type.

    Raises:
      ImageError: it cannot be read as a whole, has several pages, is transparent, or is in
        colour where the program takes grey.
    """
    wanted = program.about["image"]["channels"]
    try:
        with Image.open(file) as opened:
            pages, tiles = getattr(opened, "n_frames", 1), str(opened.tile)
            picture = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise ImageError("This is not an image of a known format.") from error
    except Exception as error:  # damaged files make Pillow raise many kinds
        raise ImageError(f"The image cannot be read ({error}).") from error
    if pages > 1:
        raise ImageError(f"The image has {pages} pages: send them one by one.")
    if ";16" in tiles and picture.mode not in _DEEP:
        raise ImageError("The image has colours of 16 bits, of which Pillow reads 8.")
    if wanted == 1 and picture.mode not in ("1", "L", "LA", *_DEEP):
        raise ImageError("The image is in colour, but this program takes grey ones.")
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise ImageError(
                "The image is transparent in places: save it without that."
            )
    if picture.mode not in _DEEP:
        picture = picture.convert("L" if wanted == 1 else "RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 2 and wanted == 3:
        pixels = np.repeat(pixels[..., None], wanted, axis=2)
    return pixels


def labels_as_png(labels: np.ndarray, program: loader.Program) -> bytes:
    """Encodes labels as a PNG.

    Args:
      labels: class ids, uint8 `[H, W]`.
      program: the program that they are of.

    Returns:
      A palette picture in the colours of the classes, whose stored values are the ids; where
      classes overlap, a grey picture of the sums of their values.
    """
    picture = Image.fromarray(labels)
    if not program.about["classes_overlap"]:
        picture.putpalette(np.array(program.about["colors"], np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
