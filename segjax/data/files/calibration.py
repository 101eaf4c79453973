"""Sizes of pixels, spacing of sections, time between frames: what a file says of the world."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MICROMETRES = (
    (("um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    (("nm", "nanometer", "nanometre"), 1e-3),
    (("mm", "millimeter", "millimetre"), 1e3),
    (("cm", "centimeter", "centimetre"), 1e4),
    (("m", "meter", "metre"), 1e6),
    (("pm", "picometer", "picometre"), 1e-6),
    ((chr(0xC5), "a", "angstrom"), 1e-4),
    (("in", "inch", "inches", '"'), 25400.0),
)
_SECONDS = (
    (("s", "sec", "second", "seconds"), 1.0),
    (("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    (("us", "usec", "microsecond"), 1e-6),
    (("min", "minute", "minutes"), 60.0),
    (("h", "hr", "hour", "hours"), 3600.0),
    (("d", "day"), 86400.0),
)
_LENGTHS = {name: factor for names, factor in _MICROMETRES for name in names}
_TIMES = {name: factor for names, factor in _SECONDS for name in names}
_MICRO = str.maketrans({chr(0xB5): "u", chr(0x3BC): "u"})
"""The sign of micro and the Greek letter, which programs do not tell apart."""


@dataclass(frozen=True)
class Calibration:
    """Physical sizes of an image; None where the file does not state them.

    Attributes:
      pixel_size: height and width of a pixel, micrometres.
      z_spacing: distance of neighbouring sections, micrometres.
      frame_interval: time between neighbouring frames, seconds.
    """

    pixel_size: tuple[float, float] | None = None
    z_spacing: float | None = None
    frame_interval: float | None = None

    @property
    def pixel_area(self) -> float | None:
        """Area of a pixel, square micrometres.

        Example:
          >>> Calibration((0.5, 0.25)).pixel_area
          0.125
        """
        if self.pixel_size is None:
            return None
        height, width = self.pixel_size
        return height * width


UNKNOWN = Calibration()
"""That of a file which states none."""


def calibration_of(
    y: float, x: float, z: float, unit: str, interval: float = 0.0, time: str = "s"
) -> Calibration:
    """Returns sizes of any unit in those of `Calibration`.

    Args:
      y: height of a pixel; 0 or NaN where it is not known, as for the others.
      x: width of a pixel.
      z: distance of sections.
      unit: of these three, as programs spell it.
      interval: time between frames.
      time: unit of that.

    Example:
      >>> calibration_of(65, 65, 0.2, "nm").pixel_size
      (0.065, 0.065)
      >>> calibration_of(1, 1, 1, "pixel")
      Calibration(pixel_size=None, z_spacing=None, frame_interval=None)
    """
    height, width = micrometres(y, unit), micrometres(x, unit)
    return Calibration(
        (height, width) if height and width else None,
        micrometres(z, unit),
        seconds(interval, time),
    )


def size_in_words(size: tuple[float, float]) -> str:
    """Returns the height and width of a pixel for people.

    Example:
      >>> size_in_words((0.5, 0.25))
      '0.5 x 0.25 micrometres'
    """
    return f"{size[0]:.4g} x {size[1]:.4g} micrometres"


def micrometres(length: float, unit: str) -> float | None:
    """Returns a length in micrometres; None where it is none, or the unit no length."""
    return _converted(length, unit, _LENGTHS)


def seconds(time: float, unit: str) -> float | None:
    """Returns a time in seconds; None where it is none, or the unit no time."""
    return _converted(time, unit, _TIMES)


def _converted(value: float, unit: str, factors: dict[str, float]) -> float | None:
    unit = unit.strip().translate(_MICRO)
    factor = factors.get(unit, factors.get(unit.lower()))
    if factor is None or not (math.isfinite(value) and value > 0):
        return None
    return float(f"{value * factor:.12g}")  # 65 nm are 0.065, not 0.065000000000000002
