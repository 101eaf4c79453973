"""Spatial pyramid pooling: a vector of one length from a map of any size.

He, Zhang, Ren, Sun, ECCV 2014, "Spatial pyramid pooling in deep convolutional networks
for visual recognition", arXiv 1406.4729; the authors' release is SPP_net. A level of
`n` divides the map into `n x n` bins and takes the maximum of each, channel by channel.

Pooling it is, and nothing but: DeepLab's atrous spatial pyramid "pooling", which
borrowed the name, is made of convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import check_maps
from segjax.ops.pooling.adaptive import adaptive_bins
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, is_count

MODES = ("adaptive", "paper", "released", "caffe")

RELEASED_SIDE = 13
RELEASED_WINDOWS = {1: (13, 13), 2: (7, 7), 3: (5, 4), 6: (3, 2)}
"""Window and stride by level, as the released network for 224 pixels has them."""


def spp_bins(
    side: int, level: int, *, mode: str = "adaptive"
) -> tuple[tuple[int, int], ...]:
    """Places the bins of one level along one axis of the map.

    With `a` pixels and `n` bins, bin `i` begins and ends by one of four rules:

    - "adaptive": `[floor(i a / n), ceil((i + 1) a / n))`. That of the release's
      detector and of PyTorch's `AdaptiveMaxPool2d`: it covers every pixel, and fits any
      map, be it smaller than `n`.
    - "paper": windows of `ceil(a / n)` every `floor(a / n)` pixels (section 2.3). The
      first `n` of them are taken; where `a mod n` exceeds 1 they leave out the last
      `a mod n - 1` pixels.
    - "released": the released classifier, which is for `a = 13` and `n` of 1, 2, 3 and
      6 alone. For `n = 2` its windows are 7 pixels every 7, the second one cut short by
      the end of the map, where the paper's rule steps by 6 and "adaptive" overlaps.
    - "caffe": windows of `k = ceil(a / n)` every `k` pixels from
      `-floor((k n - a + 1) / 2)` on, cut at both ends (Caffe's SPP layer, whose levels
      are 1, 2, 4, ...).

    Args:
      side: pixels of the map along the axis, `a`.
      level: bins along the axis, `n`.
      mode: one of `MODES`.

    Returns:
      First pixel and the one behind the last of each of the `level` bins; none is
      empty.

    Raises:
      ValueError: if the rule has no bins for this side and level.

    Example:
      >>> spp_bins(13, 2), spp_bins(13, 2, mode="released")
      (((0, 7), (6, 13)), ((0, 7), (7, 13)))
      >>> spp_bins(5, 4), spp_bins(7, 4, mode="caffe")
      (((0, 2), (1, 3), (2, 4), (3, 5)), ((0, 1), (1, 3), (3, 5), (5, 7)))
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; allowed is one of {', '.join(MODES)}")
    for name, value in (("side", side), ("level", level)):
        if not is_count(value):
            raise ValueError(f"{name} is {value!r}; allowed are integers of at least 1")
    if mode == "adaptive":
        return tuple(adaptive_bins(side, level))
    window, stride, start = _windows(side, level, mode)
    firsts = [start + i * stride for i in range(level)]
    return tuple((max(first, 0), min(first + window, side)) for first in firsts)


def _windows(side: int, level: int, mode: str) -> tuple[int, int, int]:
    """Size and stride of the windows, and where the first begins."""
    ceil = -(-side // level)
    if mode == "released":
        if side != RELEASED_SIDE or level not in RELEASED_WINDOWS:
            raise ValueError(
                f"level is {level} on a side of {side}, but mode 'released' is for a "
                f"side of {RELEASED_SIDE} and the levels 1, 2, 3 and 6; use 'adaptive'"
            )
        return (*RELEASED_WINDOWS[level], 0)
    if mode == "paper":
        if level > side:
            raise ValueError(
                f"level is {level} on a side of {side}; mode 'paper' allows at most "
                "one bin a pixel, 'adaptive' more"
            )
        return ceil, side // level, 0
    padding = (ceil * level - side + 1) // 2
    if padding >= ceil:
        raise ValueError(
            f"level is {level} on a side of {side}; mode 'caffe' would pad by "
            f"{padding}, and Caffe refuses as much as a window, {ceil}; use 'adaptive'"
        )
    return ceil, ceil, -padding


def spatial_pyramid_pool(
    x: Array, *, levels: Sequence[int] = (6, 3, 2, 1), mode: str = "adaptive"
) -> Array:
    """Takes the maximum of each bin of each level and puts them into one vector.

    The vector runs over the levels in the order given, in each over its bins row by
    row, and in each bin over the channels: bin `i, j` of a level of `n` that has
    `before` bins before it lies at `(before + i n + j) C`. Caffe has the channels
    outside of the bins: see `caffe_order`. The gradient goes to the first maximum of
    each bin, in row-major order.

    Args:
      x: maps `[B, H, W, C]`.
      levels: bins along each side, by level. (6, 3, 2, 1) and (4, 3, 2, 1), 50 and 30
        bins, are the paper's.
      mode: how bins are placed; see `spp_bins`.

    Returns:
      `[B, bins * C]`, of the dtype of `x`, `bins` being the sum of the squared levels.

    Raises:
      ValueError: if there is no level, or the rule has no bins for the map.

    Example:
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> spatial_pyramid_pool(x, levels=(2, 1)).tolist()
      [[5.0, 7.0, 13.0, 15.0, 15.0]]
    """
    check_maps(x)
    check_levels(levels)
    batch, height, width, _ = x.shape
    parts = []
    for level in levels:
        maxima = _maxima(x, 2, spp_bins(width, level, mode=mode))
        maxima = _maxima(maxima, 1, spp_bins(height, level, mode=mode))
        parts.append(maxima.reshape(batch, -1))
    return jnp.concatenate(parts, 1)


def _maxima(x: Array, axis: int, bins: Sequence[tuple[int, int]]) -> Array:
    """Maximum of each bin of one axis."""
    maxima = []
    for start, stop in bins:
        part = lax.slice_in_dim(x, start, stop, axis=axis)
        window = (stop - start, 1) if axis == 1 else (1, stop - start)
        maxima.append(max_pool(part, window=window))
    return jnp.concatenate(maxima, axis)


def check_levels(levels: Sequence[int]) -> None:
    """Refuses what is not a sequence of at least one number of bins."""
    if not levels:
        raise ValueError("levels is empty; allowed is at least one number of bins")
    for level in levels:
        spp_bins(1, level)


def caffe_order(levels: Sequence[int], channels: int) -> np.ndarray:
    """Says where Caffe keeps each entry of the pooled vector.

    Caffe flattens each level channel by channel, and each channel row by row. Weights
    `[bins * C, F]` of a layer behind Caffe's vector become ours by
    `weights[caffe_order(levels, C)]`. The levels themselves stay where they are; the
    release has (1, 2, 3, 6).

    Args:
      levels: bins along each side, by level.
      channels: channels of the map, C.

    Returns:
      Positions `[bins * C]`, int64: entry `i` of our vector is Caffe's `order[i]`.

    Raises:
      ValueError: if there is no level or no channel.

    Example:
      >>> caffe_order((2, 1), 2).tolist()
      [0, 4, 1, 5, 2, 6, 3, 7, 8, 9]
    """
    check_levels(levels)
    if channels < 1:
        raise ValueError(f"channels is {channels}; it must be at least 1")
    parts, before = [], 0
    for level in levels:
        count = channels * level * level
        part = np.arange(before, before + count).reshape(channels, level * level)
        parts.append(part.T.ravel())
        before += count
    return np.concatenate(parts)
