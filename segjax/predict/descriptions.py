"""What a result says of its axes and sizes, in the form of the file that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tifffile

from segjax.data.files.layout import Layout

_MICROMETRE = chr(0xB5) + "m"


def describe(
    layout: Layout,
    page: np.ndarray,
    pages: int,
    channel_names: Sequence[str] = (),
) -> str:
    """Writes the description of the first page of a TIFF.

    Args:
      layout: of the image; the form is ImageJ's where that is, else OME's.
      page: the first page, `[H, W]` or RGB `[H, W, 3]`.
      pages: of the image.
      channel_names: where each page of the image gives several of the result, the names of
        these.

    Returns:
      Lines for ImageJ, or the XML of OME.

    Example:
      >>> describe(Layout("ImageJ", "T", (3,)), np.zeros((2, 2)), 3).splitlines()[1:3]
      ['images=3', 'frames=3']
    """
    sizes = dict(zip(layout.axes, layout.sizes, strict=True))
    if math.prod(sizes.values()) != pages or not {*sizes} <= {*"TZ"}:
        sizes = {"Z": pages}
    if channel_names:
        sizes["C"] = len(channel_names)
    sizes = {axis: size for axis, size in sizes.items() if size > 1}
    if layout.form == "ImageJ":
        return _imagej(layout, sizes)
    return _ome(layout, sizes, page, channel_names)


def resolution(layout: Layout) -> tuple[float, float] | None:
    """Pixels per micrometre, across and down, as ImageJ wants them; None for others."""
    if layout.form != "ImageJ" or layout.calibration.pixel_size is None:
        return None
    height, width = layout.calibration.pixel_size
    return 1 / width, 1 / height


def _imagej(layout: Layout, sizes: dict[str, int]) -> str:
    calibration = layout.calibration
    keys = {"C": "channels", "Z": "slices", "T": "frames"}
    lines = ["ImageJ=1.54f", f"images={math.prod(sizes.values())}"]
    lines += [f"{key}={sizes[axis]}" for axis, key in keys.items() if axis in sizes]
    if len(sizes) > 1:
        lines.append("hyperstack=true")
    if "C" in sizes:
        lines.append("mode=grayscale")
    if calibration.pixel_size is not None or calibration.z_spacing is not None:
        lines.append("unit=micron")
    if calibration.z_spacing is not None:
        lines.append(f"spacing={calibration.z_spacing}")
    if calibration.frame_interval is not None:
        lines.append(f"finterval={calibration.frame_interval}")
    return "\n".join([*lines, "loop=false", ""])


def _ome(
    layout: Layout, sizes: dict[str, int], page: np.ndarray, names: Sequence[str]
) -> str:
    calibration = layout.calibration
    metadata: dict[str, object] = {}
    if calibration.pixel_size is not None:
        for axis, size in zip("YX", calibration.pixel_size, strict=True):
            metadata[f"PhysicalSize{axis}"] = size
            metadata[f"PhysicalSize{axis}Unit"] = _MICROMETRE
    if calibration.z_spacing is not None:
        metadata["PhysicalSizeZ"] = calibration.z_spacing
        metadata["PhysicalSizeZUnit"] = _MICROMETRE
    if calibration.frame_interval is not None:
        metadata["TimeIncrement"] = calibration.frame_interval
        metadata["TimeIncrementUnit"] = "s"
    if "C" in sizes:
        metadata["Channel"] = {"Name": list(names)}
    samples = page.shape[2] if page.ndim == 3 else 1
    xml = tifffile.OmeXml()
    xml.addimage(
        page.dtype,
        (*sizes.values(), *page.shape),
        (math.prod(sizes.values()), 1, 1, *page.shape[:2], samples),
        axes="".join(sizes) + ("YXS" if page.ndim == 3 else "YX"),
        **metadata,
    )
    return xml.tostring(declaration=True)
