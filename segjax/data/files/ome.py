"""The XML of OME in the description of a TIFF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np

from segjax.data.files.calibration import Calibration, micrometres, seconds
from segjax.data.files.stated import Stated, beside

_ORDER = "XYCZT"
"""Of the axes, the fastest first, where an image does not state it."""

_MICROMETRE = chr(0xB5) + "m"

_MOST_PLANES = 1 << 22
"""Planes whose places are looked at; those of more are in the order of the axes."""


@dataclass
class _Image:
    """One element `Pixels`.

    Attributes:
      axes: of its planes, the slowest first.
      sizes: of `axes`.
      plane: height and width, as they are written.
      calibration: physical sizes.
      names: of its channels.
      blocks: attributes of its elements `TiffData`.
    """

    axes: str
    sizes: tuple[int, ...]
    plane: tuple[str, str]
    calibration: Calibration
    names: list[str] = field(default_factory=list)
    blocks: list[dict[str, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[str, tuple[int, ...], tuple[str, str]]:
        """What images must share to be one array."""
        return self.axes, self.sizes, self.plane

    def numbers(self) -> np.ndarray:
        """Places in the file of its planes, -1 where its blocks do not say them."""
        planes = math.prod(self.sizes)
        numbers = np.full(planes, -1)
        for block in self.blocks:
            firsts = [block.get(f"First{axis}", 0) for axis in self.axes]
            if any(not 0 <= i < n for i, n in zip(firsts, self.sizes, strict=True)):
                continue
            first = int(np.ravel_multi_index(firsts, self.sizes))
            count = block.get("PlaneCount", 1 if "IFD" in block else planes)
            count = max(0, min(count, planes - first))
            place = block.get("IFD", 0)
            numbers[first : first + count] = np.arange(place, place + count)
        return numbers


def ome_axes(text: str, samples: int) -> Stated:
    """Reads the axes, channels and sizes of the images that OME's XML describes.

    Args:
      text: the XML.
      samples: channels that each page of the file has itself.

    Returns:
      What is stated. Several images of the same sizes have an axis "I" in common; of
      others, whose planes are grey or RGB, planes are all that is stated. Physical sizes
      are those that all images share.

    Raises:
      ValueError: the XML is damaged.
    """
    stated = Stated("OME")
    images = _parsed(text, samples, stated)
    if not images:
        return stated
    first = images[0]
    stated.planes = sum(math.prod(image.sizes) for image in images)
    if all(image.calibration == first.calibration for image in images):
        stated.calibration = first.calibration
    if any(x.shape != first.shape for x in images):
        channels = (dict(zip(x.axes, x.sizes, strict=True))["C"] for x in images)
        stated.differing = max(channels) > 1
        if not stated.differing:  # planes that have nothing in common but their file
            stated.program, stated.axes, stated.sizes = "", "I", (stated.planes,)
        return stated
    many = len(images) > 1
    stated.axes = "I" * many + first.axes
    stated.sizes = (len(images),) * many + first.sizes
    stated.numbers = _numbers(images, stated.planes)
    named = len({*first.names} - {""})
    if samples == 1 and named == len(first.names) == stated.channels:
        stated.channel_names = tuple(first.names)
    return stated


def _numbers(images: Sequence[_Image], planes: int) -> Sequence[int]:
    """The place of each plane, where all of them are stated, and each once."""
    if planes > _MOST_PLANES or not any(image.blocks for image in images):
        return ()
    numbers = np.concatenate([image.numbers() for image in images])
    if not np.array_equal(np.sort(numbers), np.arange(planes)):
        return ()
    return numbers.tolist()


def _parsed(text: str, samples: int, stated: Stated) -> list[_Image]:
    """Reads the elements that matter, and the files of planes into `stated`."""
    images: list[_Image] = []
    inside: list[str] = []
    uuid: list[str] = []
    named: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        inside.append(name)
        if name == "Pixels":
            images.append(_pixels(attributes, samples))
        elif name == "Channel" and "Pixels" in inside:
            images[-1].names.append(attributes.get("Name", ""))
        elif name == "TiffData" and "Pixels" in inside:
            keys = ("IFD", "PlaneCount", "FirstC", "FirstZ", "FirstT")
            block = {key: int(attributes[key]) for key in keys if key in attributes}
            images[-1].blocks.append(block)
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
    return images


def _pixels(attributes: Mapping[str, str], samples: int) -> _Image:
    """Reads the attributes of an element `Pixels`."""
    sizes = {axis: int(attributes[f"Size{axis}"]) for axis in "CZT"}
    sizes["C"] = beside(sizes["C"], samples)
    order = attributes.get("DimensionOrder", _ORDER)
    if sorted(order) != sorted(_ORDER):
        raise ValueError(f"its OME description has the DimensionOrder {order!r}")
    axes = "".join(axis for axis in reversed(order) if axis in sizes)

    def length(axis: str) -> float | None:
        unit = attributes.get(f"PhysicalSize{axis}Unit", _MICROMETRE)
        return micrometres(_number(attributes.get(f"PhysicalSize{axis}")), unit)

    height, width = length("Y"), length("X")
    interval = _number(attributes.get("TimeIncrement"))
    calibration = Calibration(
        (height, width) if height and width else None,
        length("Z"),
        seconds(interval, attributes.get("TimeIncrementUnit", "s")),
    )
    plane = (attributes.get("SizeY", ""), attributes.get("SizeX", ""))
    return _Image(axes, tuple(sizes[axis] for axis in axes), plane, calibration)


def _number(text: str | None) -> float:
    """Reads a number; 0 where there is none."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
