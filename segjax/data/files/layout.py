"""The axes of a file: along what its pages lie, and the names of its channels."""

from __future__ import annotations

from dataclasses import dataclass

from segjax.data.files.calibration import UNKNOWN, Calibration


@dataclass(frozen=True)
class Layout:
    """What a file states of its pages, each an image `[H, W, C]`.

    Attributes:
      form: whose form the statement has: "ImageJ", "OME", "tifffile" or "OME-Zarr"; empty
        where the file states nothing.
      axes: along which its pages lie, the slowest first: of "T" (time) and "Z" (depth), or
        a letter of the file's own. Empty where they are not stated, or there is one page.
      sizes: number of pages along each of `axes`.
      channel_names: of C; empty where they are not stated.
      calibration: physical sizes.
    """

    form: str = ""
    axes: str = ""
    sizes: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()
    calibration: Calibration = UNKNOWN


UNSTATED = Layout()
"""That of a file which states nothing of its axes."""
