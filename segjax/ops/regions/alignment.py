"""RoIAlign: regions of feature maps, sampled to one fixed size.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, section 3: nothing is
rounded to cells, every bin is the mean of bilinear samples. The numbers are those of
torchvision's kernel, the rules at the border among them. Which map of a pyramid a region
belongs to is decided here, too; how it is sampled is in `ops.regions.bilinear_samples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.arguments import Pair, pair
from segjax.ops.regions.bilinear_samples import Regions, Sampling, sample_bins
from segjax.ops.regions.boxes import area
from segjax.ops.regions.feature_table import check_regions, flatten
from segjax.types import Array


def roi_align(
    features: Array,
    boxes: Array,
    *,
    size: Pair,
    scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Array:
    """Samples each box of one map to `size` bins.

    A bin is the mean of `sampling_ratio`^2 bilinear samples, spread evenly in it. A
    sample up to one cell outside of the map takes the value of the border, one further
    out is 0. Samples have a gradient with respect to the features alone.

    Args:
      features: `[B, h, w, C]`, floating point.
      boxes: `[B, R, 4]` in pixels of the image.
      size: bins along height and width; one number for both.
      scale: cells of the map per pixel of the image, 1 / stride.
      sampling_ratio: samples of a bin along each axis; 0 takes as many as the bin has
        cells, rounded up, so that time depends on the largest box.
      aligned: whether pixel centres lie at halves, as geometry has it (Detectron2). The
        original form, torchvision's, is shifted by half a cell, and takes a box to be at
        least one cell high and wide.

    Returns:
      `[B, R, *size, C]`, of the dtype of `features`.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> ramp = 6 * jnp.arange(6.0)[:, None] + jnp.arange(6.0)[None]
      >>> boxes = jnp.array([[[1.0, 1.0, 3.0, 4.0]]])
      >>> regions = roi_align(ramp[None, ..., None], boxes, size=2, scale=1)
      >>> regions[0, 0, :, :, 0].tolist()
      [[7.25, 8.75], [13.25, 14.75]]
    """
    levels = jnp.zeros_like(boxes[..., 0], jnp.int32)
    return _align(
        (features,),
        boxes,
        levels,
        pair("size", size, 1),
        (scale,),
        sampling_ratio,
        aligned,
    )


def pyramid_roi_align(
    features: Sequence[Array],
    boxes: Array,
    *,
    size: Pair,
    strides: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = True,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
    first_level: int = 2,
) -> Array:
    """Samples each box from the level of a feature pyramid that suits its size.

    The level is that of `pyramid_level`; the rest is `roi_align`.

    Args:
      features: maps `[B, h, w, C]`, fine to coarse.
      boxes: `[B, R, 4]` in pixels of the image.
      size: bins along height and width; one number for both.
      strides: pixels of the image per cell, for each map.
      sampling_ratio: as in `roi_align`, and so is `aligned`.
      aligned: whether pixel centres lie at halves.
      canonical_size: side of the box, pixels, that belongs to `canonical_level`.
      canonical_level: level of such a box.
      first_level: level of the first map.

    Returns:
      `[B, R, *size, C]`, of the dtype of `features`.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> pyramid = [jnp.full((1, 32, 32, 1), 2.0), jnp.full((1, 16, 16, 1), 3.0)]
      >>> boxes = jnp.array([[[0.0, 0, 110, 110], [0, 0, 120, 110]]])
      >>> found = pyramid_roi_align(pyramid, boxes, size=1, strides=(4, 8))
      >>> found.ravel().tolist()
      [2.0, 3.0]
    """
    levels = pyramid_level(
        boxes,
        count=len(features),
        canonical_size=canonical_size,
        canonical_level=canonical_level,
        first_level=first_level,
    )
    scales = tuple(1 / stride for stride in strides)
    return _align(
        features, boxes, levels, pair("size", size, 1), scales, sampling_ratio, aligned
    )


def pyramid_level(
    boxes: Array,
    *,
    count: int,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
    first_level: int = 2,
) -> Array:
    """Chooses a map of a feature pyramid for each box, by the square root of its area.

    `floor(canonical_level + log2(sqrt(area) / canonical_size) + 1e-6)`: Lin et al., CVPR
    2017, arXiv 1612.03144, equation 1; the last term, so that exact boxes go up, is
    torchvision's.

    Args:
      boxes: `[..., 4]`, pixels.
      count: number of maps.
      canonical_size: side of the box, pixels, that belongs to `canonical_level`.
      canonical_level: level of such a box.
      first_level: level of the first map.

    Returns:
      `[...]` int32, positions among the maps, 0 for a box of no area.

    Example:
      >>> sides = jnp.array([32.0, 111.0, 112.0, 224.0, 900.0])
      >>> boxes = jnp.stack([0 * sides, 0 * sides, sides, sides], -1)
      >>> pyramid_level(boxes, count=4).tolist()
      [0, 0, 1, 2, 3]
    """
    if count < 1 or canonical_size <= 0:
        raise ValueError(
            f"count is {count} and canonical_size {canonical_size}; allowed are at "
            "least one map and a positive number of pixels"
        )
    side = jnp.sqrt(area(lax.stop_gradient(boxes)))
    some = side > 0
    octave = jnp.log2(jnp.where(some, side, 1) / canonical_size)
    level = jnp.floor(canonical_level + octave + 1e-6) - first_level
    return jnp.where(some, jnp.clip(level, 0, count - 1), 0).astype(jnp.int32)


@partial(jax.jit, static_argnames=("size", "scales", "sampling_ratio", "aligned"))
def _align(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    size: tuple[int, int],
    scales: tuple[float, ...],
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    check_regions(features, boxes, scales)
    if type(sampling_ratio) is not int or sampling_ratio < -1:
        raise ValueError(
            f"sampling_ratio is {sampling_ratio!r}; allowed are integers of at least 1, and 0 "
            "for adaptive"
        )
    sampling = Sampling(size, max(sampling_ratio, 0))

    def of_one_image(maps: Sequence[Array], boxes: Array, levels: Array) -> Array:
        scale = jnp.asarray(scales, jnp.float32)[levels][:, None]
        scaled = lax.stop_gradient(boxes).astype(jnp.float32) * scale
        start, extent = scaled[:, :2], scaled[:, 2:] - scaled[:, :2]
        if aligned:
            start -= 0.5
        else:
            extent = jnp.maximum(extent, 1)
        table, *where = flatten(maps, levels)
        return sample_bins(table, Regions(start, extent, *where), sampling)

    return jax.vmap(of_one_image)(tuple(features), boxes, levels)
