"""The description in a TIFF of its planes: their axes, channels, and physical sizes.

OME's XML, ImageJ's lines and tifffile's JSON are read from the file itself; other files that
they name are never opened.
"""

from __future__ import annotations

import json
import math

from segjax.data.files.calibration import calibration_of
from segjax.data.files.ome import ome_axes
from segjax.data.files.stated import Stated, beside
from segjax.errors import UserError

_MOST_TEXT = 1 << 25
"""Characters of a description, at most; one of a million planes has less."""


def stated_axes(
    description: str, samples: int, pixels_per_unit: tuple[float, float] = (0.0, 0.0)
) -> Stated:
    """Reads what the description of a first page states.

    Args:
      description: the text of tag 270.
      samples: channels that each page has itself.
      pixels_per_unit: down and across, of tags 283 and 282; 0 where they are not known.

    Returns:
      What is stated; as good as nothing where the description is free text.

    Raises:
      ValueError: it is OME's or tifffile's, and damaged.

    Example:
      >>> stated_axes("ImageJ=1.53t\\nimages=6\\nchannels=2\\nslices=3", 1).sizes
      (1, 3, 2)
    """
    text = description.strip()
    if len(text) > _MOST_TEXT:
        raise ValueError(f"its description has {len(text)} characters")
    if text.startswith("ImageJ="):
        return _imagej(text, pixels_per_unit)
    if text.endswith("OME>"):
        return ome_axes(text, samples)
    if text.startswith('{"shape":'):
        return _tifffile(text, samples)
    return Stated()


def require_pages(path_name: str, where: str, stated: Stated, count: int) -> None:
    """Checks that the planes of a file are those of its description.

    Args:
      path_name: name of the file, as descriptions have it.
      where: what to call it in the message.
      stated: what its description states.
      count: planes that were found.

    Raises:
      UserError: planes lie in other files, or belong to images that differ.
      ValueError: planes are missing.
    """
    others = [name for name in stated.files.values() if name not in ("", path_name)]
    if len(stated.files) > 1 or (others and count < stated.planes):
        named = f": its description names {others[0]!r}, too" if others else ""
        raise UserError(
            f"{where} is one of several files of an OME data set{named}. Save all planes "
            "in one file."
        )
    if stated.differing:
        raise UserError(
            f"{where} holds several images whose sizes differ, and which have channels. "
            "Save the image that is to be segmented alone."
        )
    if count < stated.planes:
        raise ValueError(f"{count} of {stated.planes} pages are there")


def _imagej(text: str, pixels_per_unit: tuple[float, float]) -> Stated:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(key: str) -> int:
        value = values.get(key, "1")
        return max(1, int(value)) if value.isascii() and value.isdecimal() else 1

    def length(key: str) -> float:
        try:
            return float(values.get(key, 0))
        except ValueError:
            return 0.0

    sizes = number("frames"), number("slices"), number("channels")
    if math.prod(sizes) == 1:  # a stack of which nothing else is said has sections
        sizes = 1, number("images"), 1
    down, across = (1 / n if n > 0 else 0.0 for n in pixels_per_unit)
    unit = values.get("unit", "").replace("\\u00B5", chr(0xB5))
    calibration = calibration_of(
        down,
        across,
        length("spacing"),
        unit,
        length("finterval"),
        values.get("tunit", "s"),
    )
    return Stated(
        "ImageJ",
        planes=number("images"),
        axes="TZC",
        sizes=sizes,
        calibration=calibration,
    )


def _tifffile(text: str, samples: int) -> Stated:
    try:
        stated = json.loads(text)
        shape, axes = [int(n) for n in stated["shape"]], str(stated.get("axes", ""))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("its description in JSON is damaged") from None
    sizes = {
        axis: beside(n, samples) if axis == "C" else n
        for axis, n in zip(axes, shape, strict=False)
        if axis not in "YXS"
    }
    if len(set(axes)) < len(axes):  # unknown axes, which may be called alike
        sizes = {"C": sizes["C"]} if "C" in sizes else {}
    return Stated(
        "tifffile",
        math.prod(shape),
        axes="".join(sizes),
        sizes=tuple(sizes.values()),
    )
