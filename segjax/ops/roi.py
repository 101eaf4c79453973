"""RoIAlign: regions of feature maps, sampled to one fixed size.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, section 3: nothing is
rounded to cells, every bin is the mean of bilinear samples. The numbers are those of
torchvision's kernel, the rules at the border among them.

All maps, of all levels and images, are one table of rows of C channels, and every region
knows where its map begins in it. Regions are taken in chunks, so that the samples of a
few of them are in memory at a time; the gradient, written by hand, adds them back to the
table the same way. On a GPU the order of these additions is not fixed, unless XLA is
told to be deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.boxes import area
from segjax.ops.windows import Pair, check_floating, check_maps, pair
from segjax.types import Array

FORWARD_CHUNK, BACKWARD_CHUNK = 64, 16
"""Regions of which the samples are in memory at a time."""


class Regions(NamedTuple):
    """Where regions lie in a table of maps; every field is `[R]` or `[R, 2]`.

    Attributes:
      start: first corner on the map, cells, in coordinates whose pixel centres are whole.
      extent: height and width on the map, cells.
      size: height and width of the map, int32.
      offset: row of the table at which the map begins, int32.
    """

    start: Array
    extent: Array
    size: Array
    offset: Array


class Sampling(NamedTuple):
    """What is static: bins along both axes, and samples of a bin along each (0: adaptive)."""

    size: tuple[int, int]
    ratio: int


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
    levels = jnp.zeros(boxes.shape[:-1], jnp.int32)
    return _align((features,), boxes, levels, size, (scale,), sampling_ratio, aligned)


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
    return _align(features, boxes, levels, size, scales, sampling_ratio, aligned)


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


def _align(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    size: Pair,
    scales: tuple[float, ...],
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    check_regions(features, boxes, scales)
    size = pair("size", size, 1)
    if type(sampling_ratio) is not int or sampling_ratio < -1:
        raise ValueError(
            f"sampling_ratio is {sampling_ratio!r}; allowed are integers from 1 on, and 0 "
            "for adaptive"
        )
    scale = jnp.asarray(scales, jnp.float32)[levels][..., None]
    boxes = lax.stop_gradient(boxes).astype(jnp.float32) * scale
    start, extent = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    if aligned:
        start -= 0.5
    else:
        extent = jnp.maximum(extent, 1)
    table, map_size, offset = flatten(features, levels)
    regions = Regions(
        start.reshape(-1, 2), extent.reshape(-1, 2), map_size, offset.ravel()
    )
    result = _sample(table, regions, Sampling(size, max(sampling_ratio, 0)))
    return result.reshape(*boxes.shape[:2], *size, table.shape[-1])


def check_regions(
    features: Sequence[Array], boxes: Array, scales: tuple[float, ...]
) -> None:
    """Refuses maps, boxes and scales that do not belong together."""
    if not features or len(features) != len(scales):
        raise ValueError(
            f"features are {len(features)} maps with {len(scales)} strides; allowed is one "
            "each, at least one"
        )
    if min(scales) <= 0:
        raise ValueError(f"scales are {scales}; allowed are positive numbers")
    for x in features:
        check_maps(x, "features")
        check_floating(x)
    kinds = {(x.shape[0], x.shape[-1], x.dtype) for x in features}
    if len(kinds) != 1:
        raise ValueError(
            f"features are {[x.shape for x in features]}; allowed are maps of one batch, "
            "one number of channels and one dtype"
        )
    batch = features[0].shape[0]
    if boxes.ndim != 3 or boxes.shape[0] != batch or boxes.shape[2] != 4:
        raise ValueError(
            f"boxes is {boxes.shape}; allowed is [B, R, 4], B {batch} here"
        )


def flatten(features: Sequence[Array], levels: Array) -> tuple[Array, Array, Array]:
    """Maps as one table, and each region's map size `[B R, 2]` and offset `[B, R]`."""
    batch, channels = features[0].shape[0], features[0].shape[-1]
    sizes = np.array([x.shape[1:3] for x in features], np.int32)
    cells = sizes.prod(1)
    begins = (np.cumsum(cells) - cells) * batch
    parts = [x.reshape(-1, channels) for x in features]
    table = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    image = np.arange(batch, dtype=np.int32)[:, None]
    offset = jnp.asarray(begins, jnp.int32)[levels]
    offset += image * jnp.asarray(cells, jnp.int32)[levels]
    return table, jnp.asarray(sizes)[levels].reshape(-1, 2), offset


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sample(table: Array, regions: Regions, sampling: Sampling) -> Array:
    """Rows of the table `[T, C]`, averaged to `[R, *size, C]`."""
    gather = _gather if sampling.ratio else _gather_adaptive
    return over_chunks(
        lambda part: gather(table, part, sampling), regions, FORWARD_CHUNK
    )


def over_chunks(function, regions: Regions, most: int) -> Array:
    """Applies a function to chunks of regions, in a loop that XLA does not fuse away."""
    count = regions.offset.shape[0]
    chunks, chunk = split(count, most)
    parts = jax.tree.map(lambda x: cut(x, chunks, chunk), regions)
    result = lax.map(function, parts)
    result = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], result)
    return result


def split(count: int, most: int) -> tuple[int, int]:
    """Number of chunks, two at least, and regions of each."""
    chunks = max(2, math.ceil(count / most))
    return chunks, max(1, math.ceil(count / chunks))


def cut(x: Array, chunks: int, chunk: int) -> Array:
    """Rows in `chunks` chunks, padded with zeros, which are regions of no map."""
    rest = chunks * chunk - x.shape[0]
    x = jnp.pad(x, [(0, rest)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(chunks, chunk, *x.shape[1:])


def _corners(position: Array, size: Array) -> tuple[Array, Array]:
    """Cells and bilinear weights of samples of one axis, both with a new axis of two.

    Args:
      position: `[R, ...]`, cells.
      size: `[R]`, of the map.
    """
    size = size.reshape(-1, *(1,) * (position.ndim - 1))
    inside = (position >= -1) & (position <= size)
    position = jnp.clip(position, 0, size - 1)
    low = jnp.floor(position)
    share = position - low
    cells = jnp.stack([low, jnp.minimum(low + 1, size - 1)], -1).astype(jnp.int32)
    weights = jnp.stack([1 - share, share], -1)
    return jnp.maximum(cells, 0), jnp.where(inside[..., None], weights, 0)


def _taps(regions: Regions, axis: int, sampling: Sampling) -> tuple[Array, Array]:
    """Cells and weights of one axis, `[R, bins, 2 ratio]`, for a fixed ratio."""
    bins, ratio = sampling.size[axis], sampling.ratio
    start, extent = (x[:, axis, None] for x in (regions.start, regions.extent))
    place = (np.arange(bins * ratio, dtype=np.float32)[None] + 0.5) / ratio
    position = start + place * (extent / bins)
    cells, weights = _corners(position, regions.size[:, axis])
    shape = (-1, bins, 2 * ratio)
    return cells.reshape(shape), weights.reshape(shape) / ratio


def _gather(table: Array, regions: Regions, sampling: Sampling) -> Array:
    rows, row_weights = _taps(regions, 0, sampling)
    columns, column_weights = _taps(regions, 1, sampling)
    begin = regions.offset[:, None, None] + rows * regions.size[:, 1, None, None]
    total = None
    for a in range(rows.shape[-1]):
        for b in range(columns.shape[-1]):
            index = begin[:, :, None, a] + columns[:, None, :, b]
            weight = row_weights[:, :, None, a] * column_weights[:, None, :, b]
            part = table[index] * weight[..., None].astype(table.dtype)
            total = part if total is None else total + part
    assert total is not None
    return total


class _Round(NamedTuple):
    """One sample of every bin: its four cells `[R, sh, sw, 2, 2]` and their weights."""

    index: Array
    weight: Array


def _counts(regions: Regions, sampling: Sampling) -> Array:
    """Samples of a bin along both axes, `[R, 2]`, adaptive."""
    bins = np.asarray(sampling.size, np.float32)[None]
    return jnp.maximum(jnp.ceil(regions.extent / bins), 0).astype(jnp.int32)


def _round(
    regions: Regions, counts: Array, sampling: Sampling, y: Array, x: Array
) -> _Round:
    """Sample `(y, x)` of the bins of every region that has as many."""
    cells, weights = [], []
    for axis, k in enumerate((y, x)):
        bins = sampling.size[axis]
        count = counts[:, axis, None]
        place = np.arange(bins, dtype=np.float32)[None] + (k + 0.5) / jnp.maximum(
            count, 1
        )
        position = regions.start[:, axis, None] + place * (
            regions.extent[:, axis, None] / bins
        )
        cell, weight = _corners(position, regions.size[:, axis])
        cells.append(cell)
        weights.append(
            jnp.where(
                (k < count)[..., None], weight / jnp.maximum(count, 1)[..., None], 0
            )
        )
    width = regions.size[:, 1].reshape(-1, 1, 1, 1, 1)
    index = cells[0][:, :, None, :, None] * width + cells[1][:, None, :, None, :]
    index += regions.offset.reshape(-1, 1, 1, 1, 1)
    return _Round(
        index, weights[0][:, :, None, :, None] * weights[1][:, None, :, None, :]
    )


def _over_rounds(regions: Regions, sampling: Sampling, add, total: Array) -> Array:
    """Adds up all samples, as many rounds as the largest region of the chunk needs."""
    counts = _counts(regions, sampling)
    high, wide = counts.max(0)

    def step(k: Array, total: Array) -> Array:
        return add(total, _round(regions, counts, sampling, k // wide, k % wide))

    return lax.fori_loop(0, high * wide, step, total)


def _gather_adaptive(table: Array, regions: Regions, sampling: Sampling) -> Array:
    def add(total: Array, part: _Round) -> Array:
        for a in range(2):
            for b in range(2):
                weight = part.weight[..., a, b, None].astype(table.dtype)
                total += table[part.index[..., a, b]] * weight
        return total

    shape = (regions.offset.shape[0], *sampling.size, table.shape[-1])
    return _over_rounds(regions, sampling, add, jnp.zeros(shape, table.dtype))


def _sample_forward(
    table: Array, regions: Regions, sampling: Sampling
) -> tuple[Array, tuple[Regions, Array]]:
    # An array of no rows carries the dtype and the length of the table.
    return _sample(table, regions, sampling), (regions, table)


def _sample_backward(
    sampling: Sampling, residuals: tuple[Regions, Array], cotangent: Array
) -> tuple[Array, Regions]:
    regions, table = residuals
    chunks, chunk = split(cotangent.shape[0], BACKWARD_CHUNK)
    parts = jax.tree.map(lambda x: cut(x, chunks, chunk), (regions, cotangent))
    scatter = _scatter if sampling.ratio else _scatter_adaptive

    def step(total: Array, part: tuple[Regions, Array]) -> tuple[Array, None]:
        return scatter(total, *part, sampling), None

    total, _ = lax.scan(step, jnp.zeros_like(table), parts)
    nothing = jax.tree.map(
        lambda x: (
            np.zeros(x.shape, jax.dtypes.float0)
            if jnp.issubdtype(x.dtype, jnp.integer)
            else jnp.zeros_like(x)
        ),
        regions,
    )
    return total, nothing


def _scatter(
    total: Array, regions: Regions, cotangent: Array, sampling: Sampling
) -> Array:
    rows, row_weights = _taps(regions, 0, sampling)
    columns, column_weights = _taps(regions, 1, sampling)
    begin = regions.offset[:, None, None] + rows * regions.size[:, 1, None, None]
    index = begin[:, :, None, :, None] + columns[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return _add_rows(total, index, weight, cotangent)


def _scatter_adaptive(
    total: Array, regions: Regions, cotangent: Array, sampling: Sampling
) -> Array:
    def add(total: Array, part: _Round) -> Array:
        return _add_rows(total, part.index, part.weight, cotangent)

    return _over_rounds(regions, sampling, add, total)


def _add_rows(total: Array, index: Array, weight: Array, cotangent: Array) -> Array:
    """Adds `weight * cotangent` to the rows `index`, both `[R, sh, sw, a, b]`."""
    rows = cotangent[..., None, None, :] * weight[..., None].astype(cotangent.dtype)
    rows = rows.reshape(-1, total.shape[-1]).astype(total.dtype)
    return total.at[index.ravel()].add(rows)


_sample.defvjp(_sample_forward, _sample_backward)
