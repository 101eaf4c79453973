"""Regions of a pyramid, brought to one size: by RoIAlign, or by RoIPool."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from segjax.ops.regions.alignment import pyramid_roi_align
from segjax.ops.regions.pooling import pyramid_roi_pool
from segjax.types import Array

METHODS = ("align", "pool")

Pool = Callable[[Array, int], Array]
"""From boxes `[B, R, 4]` and a number of bins s to `[B, R, s, s, C]`."""


def pool_regions(
    pyramid: Sequence[Array],
    boxes: Array,
    size: int,
    *,
    image_size: tuple[int, int],
    method: str,
    aligned: bool,
    sampling_ratio: int,
    canonical_size: float,
    canonical_level: int,
) -> Array:
    """Pools each box from the level that suits its size.

    Args:
      pyramid: maps `[B, h, w, C]`, fine to coarse, the first at level 2.
      boxes: `[B, R, 4]`, pixels of the image.
      size: bins along each side.
      image_size: height and width of the padded image, pixels.
      method: "align" or "pool".
      aligned: of RoIAlign, whether pixel centres lie at halves.
      sampling_ratio: of RoIAlign, samples of a bin along each axis.
      canonical_size: side of the box, pixels, that belongs to `canonical_level`.
      canonical_level: level of such a box.

    Returns:
      `[B, R, size, size, C]`.
    """
    # Sides of a map need not divide those of the image: the nearest power of 2.
    strides = [2.0 ** round(math.log2(image_size[0] / x.shape[1])) for x in pyramid]
    options: dict[str, Any] = {
        "size": size,
        "strides": strides,
        "canonical_size": canonical_size,
        "canonical_level": canonical_level,
    }
    if method == "pool":
        return pyramid_roi_pool(pyramid, boxes, **options)
    return pyramid_roi_align(
        pyramid, boxes, sampling_ratio=sampling_ratio, aligned=aligned, **options
    )
