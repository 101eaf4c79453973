"""PNG, JPEG, WebP, BMP and GIF files, through Pillow."""

from __future__ import annotations

import importlib
import io
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from segjax.data.files.bitstreams import (
    loss_of,
    require_all_scans,
    webp_keeps_values,
    with_filler,
)
from segjax.data.files.layout import UNSTATED
from segjax.data.files.orientation import exif_orientation
from segjax.data.files.plane import EXTRA_CODECS, Stored, require_room
from segjax.errors import UserError

# Pillow takes pictures of more than 89 million pixels for attacks on a web server. Here
# the pictures are the user's own, a page of a microscope has 400 million, and
# `require_room` looks before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

_PNG_START = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_JPEGS = ("JPEG", "MPO")
_ANIMATED = ("PNG", "WEBP", "GIF")
_KIND_OF_MODE = {
    "1": "bilevel",
    "L": "grey",
    "I;16": "grey",
    "RGB": "rgb",
    "P": "palette",
    "LA": "grey",
    "La": "grey",
    "PA": "palette",
    "RGBA": "rgb",
    "RGBa": "rgb",
    "CMYK": "cmyk",
    "YCCK": "cmyk",
}
_KIND_OF_COLOR_TYPE = {0: "grey", 2: "rgb", 4: "grey", 6: "rgb"}
_MOST_PER_BYTE = {"PNG": 1040, "JPEG": 3120, "MPO": 3120, "GIF": 2800, "BMP": 8320}
"""Bytes that one compressed byte can stand for, at most: 258 in 2 bits of a PNG, 64 pixels in
some bits of a JPEG, 4096 in 12 bits of a GIF."""

_MARKS = (165, 0)
"""Values that rows are unlikely to be full of; of 16 bits each half is such."""

_UNASKED_BYTES = 1 << 24
"""Decoded bytes for which it is not asked whether the compressed ones suffice."""

_opening = threading.Lock()


class PillowPages:
    """A file of one page.

    Attributes:
      layout: nothing; pixels of a screen have no size.
    """

    layout = UNSTATED

    def __init__(self, path: Path, file: BinaryIO, start: bytes) -> None:
        self._path = path
        self._depth, self._color_type = 8, None
        if start.startswith(_PNG_START) and len(start) == 26:
            self._depth, self._color_type = start[24], start[25]
        try:
            self._image = _open(file)
        except Image.UnidentifiedImageError as error:
            raise UserError(
                f"{path} is not a PNG, JPEG, WebP, BMP, GIF or TIFF, or its start is "
                "damaged. Save it again in one of these formats."
            ) from error

    def __len__(self) -> int:
        return 1

    def page(self, index: int) -> Stored:
        """Decodes the one page."""
        image = self._image
        self._require_room()
        self._require_one_frame()
        kind = _KIND_OF_MODE.get(image.mode, "other")
        if self._depth == 16 and image.mode != "I;16":
            # Pillow would cut the values to 8 bits without a word.
            kind = _KIND_OF_COLOR_TYPE.get(self._color_type or 0, "other")
            raw = self._path.read_bytes()
            values = _decode_deep_color(self._path, raw)
            image.info.setdefault("exif", _png_exif(raw))
        else:
            values = self._decode()
        stretched = self._color_type == 0 and self._depth in (2, 4)
        gain = 255 // (2**self._depth - 1) if stretched else 1
        values, alpha = _without_alpha(values, image, gain)
        return Stored(
            values,
            kind,
            alpha=alpha,
            gain=gain,
            palette=_palette(image) if kind == "palette" else None,
            always_palette=image.format in ("GIF", "BMP"),
            orientation=_orientation(image.info),
        )

    def head(self, index: int) -> Stored:
        """Returns the page itself, as there is one."""
        return self.page(index)

    def loss(self, index: int) -> str:
        """Says how the page was compressed if that may change values, else nothing."""
        self._require_one_frame()
        if self._image.format in _JPEGS:
            return loss_of("is a JPEG", False)
        if self._image.format == "WEBP":
            with self._path.open("rb") as file:
                kept = webp_keeps_values(file)
            return loss_of("is a WebP" if kept is None else "is a WebP with loss", kept)
        return ""

    def _decode(self) -> np.ndarray:
        """Decodes the pixels, and raises where some of them are not there.

        Where data end too soon but in good order, Pillow leaves rows as they were. So the
        last row is marked before; if it looks as marked afterwards, another mark shows
        whether that was its colour.
        """
        image = self._image
        _mark(image, _MARKS[0])
        values = np.array(image)
        if image.format in _ANIMATED and _looks_marked(image, values):
            with _open(self._path) as again:
                _mark(again, _MARKS[1])
                if not np.array_equal(values, np.array(again)):
                    raise ValueError("rows of pixels are missing")
        if image.format in _JPEGS:
            self._require_all_blocks(values)
        return values

    def _require_all_blocks(self, values: np.ndarray) -> None:
        """Raises where a part of a JPEG is not there, which its decoder takes for grey."""
        if self._image.info.get("progressive"):
            require_all_scans(self._path.read_bytes())
        corner = values[-1, -1]
        if ((corner == 127) | (corner == 128)).all():
            with _open(io.BytesIO(with_filler(self._path.read_bytes()))) as again:
                if not np.array_equal(values, np.array(again)):
                    raise ValueError("rows of pixels are missing")

    def _require_one_frame(self) -> None:
        image = self._image
        frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
        if frames > 1:
            raise UserError(
                f"{self._path} is an animation of {frames} pictures. "
                "Save a stack as multi-page TIFF."
            )

    def _require_room(self) -> None:
        image = self._image
        bytes_per_pixel = len(image.getbands()) * (2 if self._depth == 16 else 1)
        most = None
        total = image.width * image.height * bytes_per_pixel
        if image.format in _MOST_PER_BYTE and total > _UNASKED_BYTES:
            least_bits = self._depth if self._color_type is not None else 8
            most = _MOST_PER_BYTE[image.format] * self._path.stat().st_size
            most *= max(1, 8 // least_bits)
        require_room(self._path, *image.size, bytes_per_pixel, most)


def _open(file: Path | BinaryIO) -> Image.Image:
    # Pillow warns of EXIF data that it need not read here. Filters of warnings belong to
    # the whole process, so threads take turns.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(file, formats=_FORMATS)


def _mark(image: Any, mark: int) -> None:
    """Arranges for the memory of a picture to be marked before pixels are decoded into it.

    Of interlaced pictures all of it, else the last row.
    """
    prepare = image.load_prepare
    width, height = image.size
    covered = [part[1] for part in image.tile] == [(0, 0, width, height)]
    if image.format not in _ANIMATED or not covered:
        return  # WebP comes as a whole; a GIF may fill a part of its screen

    def load_prepare() -> None:
        del vars(image)["load_prepare"]  # else each would keep the other alive
        prepare()
        bands = len(image.getbands())
        top = 0 if image.info.get("interlace") else height - 1
        color = mark if bands == 1 else (mark,) * bands
        image.im.paste(color, (0, top, width, height))

    vars(image)["load_prepare"] = load_prepare


def _looks_marked(image: Image.Image, values: np.ndarray) -> bool:
    """Whether pixels may be those of the first mark, of 8 or of 16 bits, or of one."""
    marks = (True,) if values.dtype == bool else (_MARKS[0], _MARKS[0] * 257)
    if image.info.get("interlace"):
        return bool(np.isin(values, marks).any())
    first = values[-1].flat[0]
    return first in marks and bool((values[-1] == first).all())


def _without_alpha(
    values: np.ndarray, image: Image.Image, gain: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Parts pixels and opacity, which is a channel or a colour that is transparent.

    Pillow has stretched the pixels by `gain`, but not the colour.
    """
    if values.ndim == 3 and values.shape[-1] in (2, 4) and image.mode != "CMYK":
        alpha, values = values[..., -1], values[..., :-1]
        return (values[..., 0] if values.shape[-1] == 1 else values), alpha
    clear = image.info.get("transparency")
    if clear is None:
        return values, None
    if isinstance(clear, bytes):  # the opacity of each position of a palette
        table = np.full(256, 255, np.uint8)
        table[: len(clear)] = np.frombuffer(clear[:256], np.uint8)
        return values, table[values]
    same = values == (np.asarray(clear) * gain).astype(values.dtype)
    same = same.all(-1) if same.ndim == 3 else same
    return values, np.where(same, np.uint8(0), np.uint8(255))


def _orientation(info: dict[Any, Any]) -> int:
    exif = info.get("exif")
    if exif is None and isinstance(text := info.get("Raw profile type exif"), str):
        # ImageMagick keeps EXIF in a PNG as text: a name, a length, hexadecimal digits.
        try:
            exif = bytes.fromhex("".join(text.split()[2:]))
        except ValueError:
            return 1
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def _png_exif(raw: bytes) -> bytes:
    """Finds EXIF among the chunks of a PNG, where it may follow the pixels."""
    place = len(_PNG_START)
    while place + 8 <= len(raw):
        end = place + 8 + int.from_bytes(raw[place : place + 4], "big")
        if raw[place + 4 : place + 8] == b"eXIf":
            return raw[place + 8 : end]
        place = end + 4
    return b""


def _palette(image: Image.Image) -> np.ndarray:
    # `Image.getpalette` would make a list of them.
    return np.frombuffer(image.im.getpalette("RGB", "RGB"), np.uint8).reshape(-1, 3)


def _decode_deep_color(path: Path, raw: bytes) -> np.ndarray:
    """Decodes a PNG with channels of 16 bits, `[H, W, C]` uint16."""
    try:
        codecs = importlib.import_module("imagecodecs")
    except ImportError as error:
        raise UserError(
            f"{path} is a colour PNG of 16 bits per channel, which needs a further "
            f"package. Run `{EXTRA_CODECS}`, or save the file as TIFF."
        ) from error
    return codecs.png_decode(raw)
