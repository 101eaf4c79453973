"""Sizes of pixels, spacing of sections, time between frames: what a file says of the world."""

from __future__ import annotations

from dataclasses import dataclass


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
