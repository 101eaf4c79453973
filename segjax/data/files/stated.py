"""The statements of a TIFF's description, in the form that all descriptions come down to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segjax.data.files.calibration import UNKNOWN, Calibration
from segjax.data.files.layout import Layout


@dataclass
class Stated:
    """The statements of a description.

    Attributes:
      program: whose form it has.
      values: numbers in all planes together; 0 where nothing is stated.
      planes: of all images of the file, as grey or RGB pages; 0 where nothing is stated.
      axes: of the planes, the slowest first, such as "TZC"; empty where nothing is stated.
      sizes: of `axes`.
      numbers: the place of each plane in the file; empty for that of its number.
      channel_names: names of the channels.
      calibration: physical sizes.
      files: names of the files that planes lie in, by their UUID or name.
      differing: whether there are images of several channels that differ in their sizes.
    """

    program: str = ""
    values: int = 0
    planes: int = 0
    axes: str = ""
    sizes: tuple[int, ...] = ()
    numbers: Sequence[int] = ()
    channel_names: tuple[str, ...] = ()
    calibration: Calibration = UNKNOWN
    files: dict[str, str] = field(default_factory=dict)
    differing: bool = False

    @property
    def channels(self) -> int:
        """Channels that are planes of their own."""
        return dict(zip(self.axes, self.sizes, strict=True)).get("C", 1)

    def layout(self, count: int) -> Layout:
        """Returns what it says of a file that has `count` planes."""
        fits = math.prod(self.sizes) == count
        axes = self.page_axes if fits else ""
        sizes = dict(zip(self.axes, self.sizes, strict=True))
        axes = "".join(axis for axis in axes if sizes[axis] > 1)
        return Layout(
            self.program,
            axes,
            tuple(sizes[axis] for axis in axes),
            self.channel_names,
            self.calibration,
        )

    def planes_of_pages(self, count: int) -> np.ndarray:
        """Returns which planes are the channels of each page, `[pages, channels]`.

        Time is slower than depth, and the channels of one time and depth are a page,
        however they lie in the file.

        Args:
          count: planes that were found.

        Raises:
          ValueError: there are channels, and not as many planes as stated.
        """
        if not self.sizes or math.prod(self.sizes) != count:
            if self.channels > 1:
                sizes = " x ".join(str(size) for size in self.sizes)
                raise ValueError(f"{count} pages where its description says {sizes}")
            return np.arange(count)[:, None]
        numbers = np.asarray(self.numbers if len(self.numbers) else range(count))
        order = [self.axes.index(axis) for axis in self.page_axes]
        order += [i for i, axis in enumerate(self.axes) if axis == "C"]
        ordered = numbers.reshape(self.sizes).transpose(order)
        return ordered.reshape(-1, self.channels)

    @property
    def page_axes(self) -> str:
        """The axes along which pages lie: those of the planes but channels, T before Z."""
        others = (axis for axis in self.axes if axis != "C")
        return "".join(sorted(others, key="TZ".find))


def beside(channels: int, samples: int) -> int:
    """Channels that are pages, where a page has `samples` of them in its pixels."""
    return channels // samples if channels % samples == 0 else channels
