"""The description in a TIFF of its pages: how many there are, how many channels.

OME's XML, ImageJ's lines and tifffile's JSON are read from the file itself; other files that
they name are never opened.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from xml.parsers import expat

from segjax.errors import UserError

_MOST_TEXT = 1 << 25
"""Characters of a description, at most; one of a million planes has less."""


@dataclass
class Stated:
    """The statements of a description.

    Attributes:
      program: whose form it has.
      values: numbers in all planes together; 0 where nothing is stated.
      planes: of all images of the file, as grey or RGB pages; 0 where nothing is stated.
      channels: that are pages of their own.
      files: names of the files that planes lie in, by their UUID or name.
    """

    program: str = ""
    values: int = 0
    planes: int = 0
    channels: int = 1
    files: dict[str, str] = field(default_factory=dict)


def stated_axes(description: str, samples: int) -> Stated:
    """Reads what the description of a first page states.

    Args:
      description: the text of tag 270.
      samples: channels that each page has itself.

    Returns:
      What is stated; as good as nothing where the description is free text.

    Raises:
      ValueError: it is OME's or tifffile's, and damaged.

    Example:
      >>> stated_axes("ImageJ=1.53t\\nimages=6\\nchannels=2\\nslices=3", 1).channels
      2
    """
    text = description.strip()
    if len(text) > _MOST_TEXT:
        raise ValueError(f"its description has {len(text)} characters")
    if text.startswith("ImageJ="):
        return _imagej(text)
    if text.endswith("OME>"):
        return _ome(text, samples)
    if text.startswith('{"shape":'):
        return _tifffile(text, samples)
    return Stated()


def require_pages(path_name: str, where: str, stated: Stated, count: int) -> None:
    """Checks that the pages of a file are those of its description, one channel each.

    Args:
      path_name: name of the file, as descriptions have it.
      where: what to call it in the message.
      stated: what its description states.
      count: pages that were found.

    Raises:
      UserError: there are several channels, or planes lie in other files.
      ValueError: pages are missing.
    """
    others = [name for name in stated.files.values() if name not in ("", path_name)]
    if len(stated.files) > 1 or (others and count < stated.planes):
        named = f": its description names {others[0]!r}, too" if others else ""
        raise UserError(
            f"{where} is one of several files of an OME data set{named}. Save all planes "
            "in one file."
        )
    if stated.channels > 1:
        rgb = ", or the three as RGB" if stated.channels == 3 else ""
        raise UserError(
            f"{where} has {stated.channels} channels, says its {stated.program} "
            "description; as pages they would be taken for sections. Save only the "
            f"channel that is to be segmented{rgb}. If they are sections, say so: in "
            'Python with metadata={"axes": "ZYX"}, in Fiji with Image > Hyperstacks > '
            "Re-order Hyperstack."
        )
    if count < stated.planes:
        raise ValueError(f"{count} of {stated.planes} pages are there")


def _imagej(text: str) -> Stated:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(key: str) -> int:
        value = values.get(key, "1")
        return max(1, int(value)) if value.isascii() and value.isdecimal() else 1

    return Stated("ImageJ", planes=number("images"), channels=number("channels"))


def _tifffile(text: str, samples: int) -> Stated:
    try:
        stated = json.loads(text)
        shape, axes = [int(n) for n in stated["shape"]], str(stated.get("axes", ""))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("its description in JSON is damaged") from None
    sizes = zip(axes, shape, strict=False)
    channels = math.prod(n for axis, n in sizes if axis == "C")
    return Stated("tifffile", math.prod(shape), channels=_beside(channels, samples))


def _ome(text: str, samples: int) -> Stated:
    stated = Stated("OME")
    inside: list[str] = []
    uuid: list[str] = []
    named: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        inside.append(name)
        if name == "Pixels":
            channels, z, t = (int(attributes[f"Size{axis}"]) for axis in "CZT")
            channels = _beside(channels, samples)
            stated.channels = max(stated.channels, channels)
            stated.planes += channels * z * t
        elif name == "BinaryOnly":
            other = attributes.get("MetadataFile", "")
            stated.files.update({"": "", other: other})
        elif name == "UUID":
            uuid.clear()
            named[:] = [attributes.get("FileName", "")]

    def end(_: str) -> None:
        if inside.pop() == "UUID":
            stated.files["".join(uuid).strip() or named[0]] = named[0]

    def text_of(part: str) -> None:
        if inside[-1] == "UUID":
            uuid.append(part)

    def refuse(*_: object) -> None:
        raise ValueError("its OME description has a DOCTYPE")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text_of
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, KeyError) as error:
        raise ValueError(f"its OME description is damaged ({error})") from None
    return stated


def _beside(channels: int, samples: int) -> int:
    """Channels that are pages, where a page has `samples` of them in its pixels."""
    return channels // samples if channels % samples == 0 else channels
