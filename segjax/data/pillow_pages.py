"""PNG, JPEG and WebP files, through Pillow."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from segjax.data.stored import EXTRA_CODECS, MAX_PIXELS, Stored, require_pixels
from segjax.types import UserError

# Pillow takes pictures of more than 89 million pixels for attacks on a web server. Here
# the pictures are the person's own, and a page of a microscope has 400 million.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_PNG_START = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("PNG", "JPEG", "WEBP")
_KIND_OF_MODE = {
    "1": "bilevel",
    "L": "grey",
    "I;16": "grey",
    "RGB": "rgb",
    "P": "palette",
    "LA": "alpha",
    "La": "alpha",
    "PA": "alpha",
    "RGBA": "alpha",
    "RGBa": "alpha",
    "CMYK": "cmyk",
    "YCCK": "cmyk",
}


class PillowPages:
    """A PNG, JPEG or WebP file: always one page."""

    def __init__(self, path: Path, start: bytes) -> None:
        self._path = path
        self._depth, self._color_type = 8, None
        if start.startswith(_PNG_START) and len(start) == 26:
            self._depth, self._color_type = start[24], start[25]
        try:
            self._image = Image.open(path, formats=_FORMATS)
        except Image.UnidentifiedImageError as error:
            raise UserError(
                f"{path} is neither PNG, JPEG, WebP nor TIFF, or its start is damaged. "
                "Save it again in one of these formats."
            ) from error

    def __len__(self) -> int:
        return 1

    def __enter__(self) -> PillowPages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._image.close()

    def page(self, index: int) -> Stored:
        """Decodes the one page."""
        image = self._image
        require_pixels(self._path, *image.size)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in ("PNG", "WEBP"):
            raise UserError(
                f"{self._path} is an animation of {frames} pictures. "
                "Save a stack as multi-page TIFF."
            )
        kind = _KIND_OF_MODE.get(image.mode, "other")
        if self._depth == 16 and image.mode == "RGB":
            # Pillow would cut the values to 8 bits without a word.
            return Stored(_decode_deep_color(self._path), "rgb")
        if "transparency" in image.info and kind != "palette":
            kind = "alpha"
        gain = 255 // (2**self._depth - 1) if self._color_type == 0 else 1
        return Stored(
            np.array(image),
            kind,
            lossy=image.format in ("JPEG", "MPO"),
            gain=gain if self._depth in (2, 4) else 1,
            palette=_palette(image) if kind == "palette" else None,
        )


def _palette(image: Image.Image) -> np.ndarray:
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _decode_deep_color(path: Path) -> np.ndarray:
    """Decodes a PNG with three channels of 16 bits, `[H, W, 3]` uint16."""
    try:
        codecs = importlib.import_module("imagecodecs")
    except ImportError as error:
        raise UserError(
            f"{path} is a colour PNG of 16 bits per channel, which needs a further "
            f"package. Run `{EXTRA_CODECS}`, or save the file as TIFF."
        ) from error
    return codecs.png_decode(path.read_bytes())
