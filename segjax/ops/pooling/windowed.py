"""Pooling of maps `[B, H, W, C]`, and the unpooling that undoes it.

Sizes are PyTorch's. Without `ceil_mode`, `floor((H + 2 p - k) / s) + 1`; with it the
division rounds up, as in Caffe, and a last window that would start behind the input and
its left padding is dropped.

Windows are taken apart into strided slices, rows after columns, so the gradients are sums in a
fixed order. XLA's own `reduce_window`, whose gradient is slow on a CPU and adds up in any order
on a GPU where windows overlap, is for `max_pool` on accelerators alone
(`segjax.ops.pooling.stock`). Of equal maxima the first in row-major order gets the gradient; a
NaN is larger than every number, and on a CPU the last NaN wins, as in PyTorch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import (
    Pair,
    arange,
    check_floating,
    check_maps,
    is_open,
    pair,
)
from segjax.ops.base.windows import Windows, place_windows
from segjax.ops.pooling.stock import is_stock, stock_max_pool
from segjax.types import Array


def _is_later_maximum(best: Array, x: Array) -> Array:
    """Whether `x`, which comes later, takes the place of `best`."""
    later = x > best
    if jnp.issubdtype(x.dtype, jnp.floating):
        later |= jnp.isnan(x)
    return later


def maximum_along(
    x: Array, index: Array | None, windows: Windows
) -> tuple[Array, Array | None]:
    """Maximum of each window of one axis, and the `index` that belongs to it."""
    if windows.before or windows.after:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        lowest = -jnp.inf if floating else jnp.iinfo(x.dtype).min
        x = jnp.pad(x, windows.widths(), constant_values=lowest)
        if index is not None:
            # A window of -inf alone answers with its first pixel that is not padding.
            index = jnp.pad(index, windows.widths(), mode="edge")
    values = windows.taps(x)
    best = values[0]
    if index is None:
        for value in values[1:]:
            best = jnp.where(_is_later_maximum(best, value), value, best)
        return best, None
    indices = windows.taps(index)
    where = indices[0]
    for value, candidate in zip(values[1:], indices[1:], strict=True):
        take = _is_later_maximum(best, value)
        best = jnp.where(take, value, best)
        where = jnp.where(take, candidate, where)
    return best, jnp.broadcast_to(where, best.shape)


def _quarters(x: Array) -> tuple[Array, Array, Array, Array]:
    """The four pixels of every 2x2 block, each as a map of half the size."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]


def _quarter_of_maximum(x: Array) -> tuple[Array, Array]:
    """Maximum of every 2x2 block, and which of the four pixels it is, 0 to 3."""
    a, b, c, d = _quarters(x)
    right, right_below = _is_later_maximum(a, b), _is_later_maximum(c, d)
    top, bottom = jnp.where(right, b, a), jnp.where(right_below, d, c)
    below = _is_later_maximum(top, bottom)
    quarter = jnp.where(below, 2 + right_below.astype(jnp.uint8), right)
    return jnp.where(below, bottom, top), quarter.astype(jnp.uint8)


@jax.custom_jvp
def _max_pool_2x2(x: Array) -> Array:
    a, b, c, d = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


@_max_pool_2x2.defjvp
def _max_pool_2x2_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    # The tangent is a masked sum over blocks. Its transpose, the gradient, is then one
    # masked copy of the cotangent, written once and in order.
    (x,), (tangent,) = primals, tangents
    values, quarter = _quarter_of_maximum(x)
    batch, h, w, channels = values.shape
    blocks = tangent[:, : 2 * h, : 2 * w].reshape(batch, h, 2, w, 2, channels)
    position = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 1, 2, 1)
    chosen = quarter[:, :, None, :, None] == position
    return values, jnp.where(chosen, blocks, 0).sum((2, 4), dtype=blocks.dtype)


def _is_plain_2x2(rows: Windows, columns: Windows) -> bool:
    return all((*w[1:4], w.after) == (2, 2, 0, 0) for w in (rows, columns))


def max_pool(
    x: Array,
    *,
    window: Pair = 2,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Array:
    """Takes the maximum of each window.

    Padding and overhang never win. The gradient goes to the first maximum alone.

    Args:
      x: maps `[B, H, W, C]`.
      window: height and width of the window in pixels; one number for both.
      stride: step between windows; the window itself when it is None.
      padding: pixels before and after each axis, at most half of the window.
      ceil_mode: whether a last window may hang over the end, as in Caffe.

    Returns:
      `[B, h, w, C]`, of the dtype of `x`.

    Raises:
      ValueError: if the window does not fit, or an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.arange(25).reshape(1, 5, 5, 1)
      >>> max_pool(x)[0, :, :, 0].tolist()
      [[6, 8], [16, 18]]
      >>> max_pool(x, ceil_mode=True)[0, :, :, 0].tolist()
      [[6, 8, 9], [16, 18, 19], [21, 23, 24]]
    """
    rows, columns = place_windows(x, window, stride, padding, ceil_mode)
    if is_stock(rows, columns):
        return stock_max_pool(x, rows, columns)
    if _is_plain_2x2(rows, columns):
        return _max_pool_2x2(x)
    x, _ = maximum_along(x, None, columns)
    return maximum_along(x, None, rows)[0]


def max_pool_with_indices(
    x: Array,
    *,
    window: Pair = 2,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Takes the maximum of each window, and says where it was.

    Args:
      x: maps `[B, H, W, C]`.
      window: as in `max_pool`, and so are `stride`, `padding` and `ceil_mode`.
      stride: step between windows; the window itself when it is None.
      padding: pixels before and after each axis, at most half of the window.
      ceil_mode: whether a last window may hang over the end, as in Caffe.

    Returns:
      The maxima `[B, h, w, C]`, and their positions, int32 of the same shape, counted
      row by row in the plane of their image and channel: `row * W + column`.

    Raises:
      ValueError: if the window does not fit, or an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
      >>> _, indices = max_pool_with_indices(x[None, :, :, None])
      >>> indices[0, :, :, 0].tolist()
      [[5, 2], [12, 15]]
    """
    rows, columns = place_windows(x, window, stride, padding, ceil_mode)
    _, height, width, _ = x.shape
    if _is_plain_2x2(rows, columns):
        quarter = lax.stop_gradient(_quarter_of_maximum(lax.stop_gradient(x))[1])
        within = quarter.astype(jnp.int32)
        row = 2 * arange(rows.number).reshape(1, -1, 1, 1)
        column = 2 * arange(columns.number).reshape(1, 1, -1, 1)
        indices = width * (within // 2 + row) + (within % 2 + column)
        return _max_pool_2x2(x), indices
    index = jnp.arange(height * width, dtype=jnp.int32).reshape(1, height, width, 1)
    x, found = maximum_along(x, index, columns)
    values, found = maximum_along(x, found, rows)
    assert found is not None
    return values, found


def max_unpool(
    x: Array, indices: Array, *, size: tuple[int, int], window: int | None = None
) -> Array:
    """Writes each value to its index in a map of zeros.

    Where windows overlapped, several values may share an index; then the last in
    row-major order stands, as in PyTorch, on every backend. The gradient goes to the
    values that stand. An index outside of the map is left out.

    Args:
      x: values `[B, h, w, C]`.
      indices: positions `[B, h, w, C]`, as from `max_pool_with_indices`.
      size: height and width of the result.
      window: a promise that pooling was with this window at this stride, without
        padding, on a map of `size`. Then there is nothing to scatter: each block
        compares its own positions with the index, which is many times faster. An
        index outside of its block is left out.

    Returns:
      `[B, *size, C]`.

    Raises:
      ValueError: if the shapes differ, or `size` does not belong to `window`.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1, 2], [3, 4]])[None, :, :, None]
      >>> indices = jnp.array([[5, 2], [12, 15]])[None, :, :, None]
      >>> max_unpool(x, indices, size=(4, 4))[0, :, :, 0].tolist()
      [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    """
    check_maps(x)
    if indices.shape != x.shape or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"indices is {indices.dtype}{list(indices.shape)}; allowed are integers of "
            f"the shape of x, {list(x.shape)}"
        )
    height, width = pair("size", size, 1)
    if window is None:
        return _unpool_by_scatter(x, indices, height, width)
    return _unpool_by_blocks(x, indices, height, width, window)


def _unpool_by_scatter(x: Array, indices: Array, height: int, width: int) -> Array:
    batch, h, w, channels = x.shape
    pixels, count = height * width, h * w
    x, indices = (a.reshape(batch, count, channels) for a in (x, indices))
    image = np.arange(batch)[:, None, None]
    channel = np.arange(channels)[None, None]
    order = np.arange(count, dtype=np.int32)[None, :, None]
    # Whoever writes last is found by a maximum, which has no order of its own.
    pixel = jnp.where(indices < 0, pixels, indices)
    last = jnp.full((batch, pixels, channels), -1, jnp.int32)
    last = last.at[image, pixel, channel].max(order, mode="drop")
    stands = last.at[image, pixel, channel].get(mode="fill", fill_value=-2) == order
    target = jnp.where(stands, pixel, pixels + order)
    result = jnp.zeros((batch, pixels, channels), x.dtype)
    result = result.at[image, target, channel].set(x, mode="drop", unique_indices=True)
    return result.reshape(batch, height, width, channels)


def _unpool_by_blocks(
    x: Array, indices: Array, height: int, width: int, window: int
) -> Array:
    batch, h, w, channels = x.shape
    for name, whole, blocks in (("height", height, h), ("width", width, w)):
        if window < 1 or not blocks * window <= whole < (blocks + 1) * window:
            raise ValueError(
                f"size has a {name} of {whole} for {blocks} blocks of window {window}; "
                f"allowed is {blocks * window} to {(blocks + 1) * window - 1}"
            )
    row = arange(h * window).reshape(1, h, window, 1, 1, 1)
    column = arange(w * window).reshape(1, 1, 1, w, window, 1)
    chosen = indices[:, :, None, :, None] == row * width + column
    x = jnp.where(chosen, x[:, :, None, :, None], 0)
    x = x.reshape(batch, h * window, w * window, channels)
    rest = (0, height - h * window), (0, width - w * window)
    return jnp.pad(x, ((0, 0), *rest, (0, 0)))


def avg_pool(
    x: Array,
    *,
    window: Pair = 2,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Takes the mean of each window.

    Sums are in float32 at least. Overhang beyond the padding is never counted; with
    `count_include_pad` this is Caffe's AVE pooling.

    Args:
      x: maps `[B, H, W, C]`, floating point.
      window: height and width of the window in pixels; one number for both.
      stride: step between windows; the window itself when it is None.
      padding: pixels of zeros before and after each axis, at most half of the window.
      ceil_mode: whether a last window may hang over the end, as in Caffe.
      count_include_pad: whether padding counts in the divisor.

    Returns:
      `[B, h, w, C]`, of the dtype of `x`.

    Raises:
      ValueError: if the window does not fit, or an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> avg_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
      [[2.5, 4.5], [10.5, 12.5]]
    """
    rows, columns = place_windows(x, window, stride, padding, ceil_mode)
    check_floating(x)
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    for windows in (columns, rows):
        size = x.shape[windows.axis]
        sums = _sum_along(x, windows)
        numpy = jnp if is_open(size) else np
        start = arange(windows.number) * windows.stride - windows.before
        stop = start + windows.window
        if count_include_pad:
            counts = numpy.minimum(stop, size + windows.before) - start
        else:
            counts = numpy.minimum(stop, size) - numpy.maximum(start, 0)
        shape = [1] * 4
        shape[windows.axis] = windows.number
        x = sums / counts.astype(sums.dtype).reshape(shape)
    return x.astype(dtype)


def _sum_along(x: Array, windows: Windows) -> Array:
    """Sum of each window of one axis."""
    axis, window, number = windows.axis, windows.window, windows.number
    if windows.stride == window and not windows.before and not windows.after:
        x = lax.slice_in_dim(x, 0, number * window, axis=axis)
        shape = (*x.shape[:axis], number, window, *x.shape[axis + 1 :])
        return x.reshape(shape).sum(axis + 1)
    first, *rest = windows.taps(jnp.pad(x, windows.widths()))
    for tap in rest:
        first = first + tap
    return first
