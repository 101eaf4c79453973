"""Convolution by kernels of 3x3 with fewer multiplications: Winograd's minimal filtering.

A tile of `m x m` results is `A^T [(G g G^T) * (B^T d B)] A`, with the kernel g and the
`(m + 2) x (m + 2)` pixels d that it sees. The product in brackets is one for each of the
`(m + 2)^2` places, and over all channels a product of matrices; for m = 2 there are 16 of them
where the taps have 36. XLA's direct convolution runs at the peak of the cores, so only fewer
multiplications can be faster. For m = 2 the rounding is that of the direct form (2e-7 to
1.2e-6 of the largest value, float32), for m = 4 ten times as large, so that one is for kernel
gradients alone.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015,
arXiv:1509.09308, sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from segjax.ops.base.lax_conv import Options, as_conv
from segjax.types import Array

Matrix = tuple[tuple[float, ...], ...]


class Transform(NamedTuple):
    """The three matrices of one size of tiles.

    Attributes:
      tile: rows and columns of results, m.
      image: `B^T`, `[m + 2, m + 2]`.
      kernel: `G`, `[m + 2, 3]`.
      result: `A^T`, `[m, m + 2]`.
    """

    tile: int
    image: Matrix
    kernel: Matrix
    result: Matrix


F2 = Transform(
    2,
    image=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    result=((1, 1, 1, 0), (0, 1, -1, -1)),
)
F4 = Transform(
    4,
    image=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    kernel=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    result=(
        (1, 1, 1, 1, 1, 0),
        (0, 1, -1, 2, -2, 0),
        (0, 1, 1, 4, 4, 0),
        (0, 1, -1, 8, -8, 1),
    ),
)


def winograd(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves as `stock_conv` does, kernels of 3x3 at stride 1."""
    return _convolved(x, _of_kernel(kernel, F2), options, "tc,cf->tf")


def winograd_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `winograd` for an image of `size`; no kernel is transposed."""
    _, beside = as_conv(x, kernel, options, size)
    parts = _of_kernel(kernel[::-1, ::-1], F2)
    return _convolved(x, parts, beside, "tc,fc->tf")


def winograd_kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options, transform: Transform
) -> Array:
    """Gradient of `sum(winograd(x, kernel) * cotangent)` with respect to `kernel`."""
    _, height, width, _ = cotangent.shape
    seen = _of_image(x, options, (height, width), transform)
    spread = _of_cotangent(cotangent, options, transform)
    products = lax.optimization_barrier(
        [jnp.einsum("tc,tf->cf", v, y) for v, y in zip(seen, spread, strict=True)]
    )
    columns = tuple(zip(*transform.kernel, strict=True))
    taps = _both_ways(products, columns, columns)
    return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


def _convolved(x: Array, kernel: Sequence[Array], options: Options, form: str) -> Array:
    """Convolves with a transformed kernel.

    Args:
      x: `[B, H, W, C]`.
      kernel: 16 matrices.
      options: of the convolution.
      form: of the product of tiles and such a matrix.

    Returns:
      `[B, h, w, F]`.
    """
    batch, *sides, _ = x.shape
    height, width = (
        side + sum(pads) - 2 * step
        for side, pads, step in zip(sides, options.pads, options.dilation, strict=True)
    )
    m, (down, across) = F2.tile, options.dilation
    rows, columns = _tiles(options, (height, width), m)
    seen = _of_image(x, options, (height, width), F2)
    products = lax.optimization_barrier(
        [jnp.einsum(form, v, u) for v, u in zip(seen, kernel, strict=True)]
    )
    parts = _rows(products, F2.result)
    parts = lax.optimization_barrier(parts)
    shape = (batch, rows, down, columns, across, products[0].shape[-1])
    lines = []
    for part in parts:
        places = [_combined(row, part).reshape(shape) for row in F2.result]
        lines.append(jnp.stack(places, 4))  # [B, rows, down, columns, m, across, F]
    y = jnp.stack(lines, 2)
    y = y.reshape(batch, rows * m * down, columns * m * across, -1)
    return lax.optimization_barrier(y)[:, :height, :width]


def _tiles(options: Options, size: tuple[int, int], m: int) -> tuple[int, int]:
    """Rows and columns of tiles, of results that are a dilation apart."""
    down, across = (
        -(-(-(-side // step)) // m)
        for side, step in zip(size, options.dilation, strict=True)
    )
    return down, across


def _of_image(
    x: Array, options: Options, size: tuple[int, int], transform: Transform
) -> list[Array]:
    """`B^T d B` of all tiles: for each place a matrix `[tiles, C]`."""
    m, (down, across) = transform.tile, options.dilation
    rows, columns = _tiles(options, size, m)
    config = [(0, 0, 0)] * 4
    for axis, (count, step) in enumerate(((rows, down), (columns, across))):
        low = options.pads[axis][0]
        high = step * (m * count + 2) - low - x.shape[1 + axis]
        config[1 + axis] = (low, high, 0)
    x = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), config))
    batch, *_, channels = x.shape
    x = x.reshape(batch, m * rows + 2, down, m * columns + 2, across, channels)
    cut = lambda x, i, axis, count: lax.slice_in_dim(
        x, i, i + m * (count - 1) + 1, m, axis
    )
    lines = [cut(x, i, 1, rows) for i in range(m + 2)]
    found = []
    for line in lax.optimization_barrier(
        [_combined(row, lines) for row in transform.image]
    ):
        places = [cut(line, j, 3, columns) for j in range(m + 2)]
        found += [_combined(row, places) for row in transform.image]
    return [part.reshape(-1, channels) for part in found]


def _of_cotangent(
    cotangent: Array, options: Options, transform: Transform
) -> list[Array]:
    """`A y A^T` of all tiles: for each place a matrix `[tiles, F]`."""
    m, (down, across) = transform.tile, options.dilation
    batch, height, width, features = cotangent.shape
    rows, columns = _tiles(options, (height, width), m)
    whole = rows * m * down - height, columns * m * across - width
    if any(whole):
        cotangent = jnp.pad(cotangent, ((0, 0), (0, whole[0]), (0, whole[1]), (0, 0)))
    cotangent = lax.optimization_barrier(cotangent)
    y = cotangent.reshape(batch, rows * m, down, columns * m, across, features)
    spread = tuple(zip(*transform.result, strict=True))
    lines = [y[:, i::m] for i in range(m)]
    found = []
    for line in lax.optimization_barrier([_combined(row, lines) for row in spread]):
        places = [line[:, :, :, j::m] for j in range(m)]
        found += [_combined(row, places) for row in spread]
    return [part.reshape(-1, features) for part in found]


def _of_kernel(kernel: Array, transform: Transform) -> list[Array]:
    """`G g G^T`: for each place a matrix `[C, F]`."""
    taps = [kernel[u, v] for u in range(3) for v in range(3)]
    return _both_ways(taps, transform.kernel, transform.kernel)


def _both_ways(parts: Sequence[Array], left: Matrix, right: Matrix) -> list[Array]:
    """`L p R^T` of a square of arrays, given and returned row by row."""
    return [_combined(row, line) for line in _rows(parts, left) for row in right]


def _rows(parts: Sequence[Array], matrix: Matrix) -> list[list[Array]]:
    """`M p` of a square of arrays, row by row."""
    side = len(matrix[0])
    columns = [parts[j::side] for j in range(side)]
    return [[_combined(row, column) for column in columns] for row in matrix]


def _combined(row: Sequence[float], parts: Sequence[Array]) -> Array:
    """The sum of parts, each times its number in a row."""
    total = None
    for factor, part in zip(row, parts, strict=True):
        if factor:
            term = {1: part, -1: -part}.get(factor, factor * part)
            total = term if total is None else total + term
    assert total is not None
    return total
