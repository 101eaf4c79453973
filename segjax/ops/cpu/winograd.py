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

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.forms import shards
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


LARGE = 5e8
"""Multiplications of one image from which it is worth it: compiling takes a second more.

Of an AMD EPYC with AVX2, one core: 64x64 with 128 channels 0.64 of the time of the direct form,
0.60 of its image gradient, 0.58 (F2) and 0.43 (F4) of its kernel gradient.
"""

_LARGEST_DILATION = 8
_CACHE = 16 << 20
"""Bytes of transformed images from which a batch is taken image by image."""

_MOST = 512 << 20
"""Bytes of a transformed image up to which it is done: four times those of a map, of which a
network has several. Strips of rows were tried, and took no less."""

_LARGEST_WASTE = 1.25
"""Pixels of tiles to pixels of the result, up to which fewer multiplications are left."""


def is_worth_it(
    x: Array, kernel: Array, options: Options, channels: int = 64, tiles: int = 128
) -> bool:
    """Whether a convolution can be done by these forms, and is large enough for them.

    Args:
      x: image `[B, H, W, C]`.
      kernel: `[3, 3, C, F]`.
      options: of the convolution.
      channels: that C and F must have at least.
      tiles: of 2x2 pixels, of all images, that there must be at least.

    Returns:
      True where the time of compiling comes back within some steps.
    """
    if (
        kernel.shape[:2] != (3, 3)
        or options.stride != (1, 1)
        or options.groups != 1
        or max(options.dilation) > _LARGEST_DILATION
        or not x.dtype == kernel.dtype == jnp.float32
        or shards() > 1
    ):
        return False
    size = options.output_size(x, kernel)
    pixels = math.prod(size)
    covered = 4 * math.prod((*_tiles(options, size, 2), *options.dilation))
    return (
        min(kernel.shape[2:]) >= channels
        and covered <= _LARGEST_WASTE * pixels
        and _transformed(x) <= _MOST * x.shape[0]
        and x.shape[0] * pixels >= 4 * tiles
        and pixels * kernel.size >= LARGE
    )


def suited(kernel: Array) -> Transform:
    """The tiles of a kernel's gradient: the larger ones where products take little of it."""
    return F4 if min(kernel.shape[2:]) <= 64 else F2


@partial(jax.jit, static_argnames="options")
def winograd(x: Array, kernel: Array, options: Options) -> Array:
    """Convolves as `stock_conv` does, kernels of 3x3 at stride 1."""
    return _convolved(x, _of_kernel(kernel, F2), options, "tc,cf->tf")


@partial(jax.jit, static_argnames=("options", "size"))
def winograd_transpose(
    x: Array, kernel: Array, options: Options, size: tuple[int, int]
) -> Array:
    """The adjoint of `winograd` for an image of `size`; no kernel is transposed."""
    _, beside = as_conv(x, kernel, options, size)
    parts = _of_kernel(kernel[::-1, ::-1], F2)
    return _convolved(x, parts, beside, "tc,fc->tf")


@partial(jax.jit, static_argnames=("options", "transform"))
def winograd_kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options, transform: Transform
) -> Array:
    """Gradient of `sum(winograd(x, kernel) * cotangent)` with respect to `kernel`.

    Args:
      x: image `[B, H, W, C]`.
      cotangent: of the convolution, `[B, h, w, F]`.
      kernel: `[3, 3, C, F]`, for its shape and type.
      options: of the convolution.
      transform: the size of the tiles.

    Returns:
      `[3, 3, C, F]`.
    """

    def products_of(x: Array, cotangent: Array) -> list[Array]:
        _, height, width, _ = cotangent.shape
        seen = _of_image(x, options, (height, width), transform)
        spread = _of_cotangent(cotangent, options, transform)
        return [
            jnp.einsum("tc,tf->cf", *pair) for pair in zip(seen, spread, strict=True)
        ]

    def add_image(total: list[Array], image: tuple[Array, Array]) -> Any:
        found = products_of(*(part[None] for part in image))
        return [a + b for a, b in zip(total, found, strict=True)], None

    if _one_by_one(x) or _one_by_one(cotangent):
        zeros = [jnp.zeros(kernel.shape[2:], x.dtype)] * (transform.tile + 2) ** 2
        products, _ = lax.scan(add_image, zeros, (x, cotangent))
    else:
        products = products_of(x, cotangent)
    products = lax.optimization_barrier(products)
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
    if _one_by_one(x):
        kernel = lax.optimization_barrier(kernel)
        one = lambda image: _convolved(image[None], kernel, options, form)[0]
        return lax.map(one, x)
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


def _one_by_one(x: Array) -> bool:
    """Whether the tiles of all images are too many for a cache."""
    return x.shape[0] > 1 and _transformed(x) > _CACHE


def _transformed(x: Array) -> int:
    """Bytes of the tiles of images, four times their pixels."""
    return 4 * x.size * x.dtype.itemsize


def _tiles(options: Options, size: tuple[int, int], m: int) -> tuple[int, int]:
    """Rows and columns of tiles, of results that are a dilation apart."""
    spans = [step * m for step in options.dilation]
    down, across = (-(-side // span) for side, span in zip(size, spans, strict=True))
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
            term = part if factor == 1 else -part if factor == -1 else factor * part
            total = term if total is None else total + term
    assert total is not None
    return total
