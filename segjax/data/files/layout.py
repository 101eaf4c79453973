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
      zarr_format: of an OME-Zarr: 2 up to its version 0.4, 3 from 0.5 on; else 0.
    """

    form: str = ""
    axes: str = ""
    sizes: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()
    calibration: Calibration = UNKNOWN
    zarr_format: int = 0

    def follows(self, page: int, earlier: int) -> bool:
        """Whether a page is the next one along the fastest axis, which is time or depth.

        Where no axes are stated, pages are one stack.

        Args:
          page: a page, from 0.
          earlier: another one.

        Returns:
          Whether it is. The first slice of a frame follows none, and neither do images that
          are apart, as those of one OME file (axis "I").

        Example:
          >>> layout = Layout(axes="TZ", sizes=(2, 3))
          >>> [layout.follows(page, page - 1) for page in range(6)]
          [False, True, True, False, True, True]
        """
        if earlier < 0 or page != earlier + 1:
            return False
        along = [x for x in zip(self.axes, self.sizes, strict=True) if x[1] > 1]
        if not along:
            return True
        axis, size = along[-1]
        return axis in "TZ" and page % size != 0


UNSTATED = Layout()
"""That of a file which states nothing of its axes."""
