"""The gradient of a convolution with respect to its kernel, as matrix products.

XLA's CPU backend has no fast form of it: left to itself it takes many times as long as
the forward pass.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.forms import shards
from segjax.ops.base.lax_conv import Options, pad_to
from segjax.types import Array

_WHOLE = 64 << 20
"""Bytes of a batch and its cotangent, unfolded, up to which they are taken at once: a loop
over blocks is slower (`at_once` of `benchmarks/bench_forms.py`)."""
_SMALL_MAP = 64 * 64
"""Pixels up to which a map is taken whole, and not in blocks of rows."""
_ROWS = 16
"""Rows of a block of a larger map."""
_CACHE = 6 << 20
"""Bytes that stay in cache: of the image and its cotangent, unfolded."""
_FEW_CHANNELS = 8
"""Channels below which all taps are unfolded on the side of the image."""


def kernel_gradient(
    x: Array, cotangent: Array, kernel: Array, options: Options
) -> Array:
    """Gradient of `sum(stock_conv(x, kernel, options) * cotangent)` with respect to `kernel`.

    XLA's CPU backend has no fast form of it, so it is made of matrix products (several
    times faster, and deterministic).
    """

    groups = options.groups
    shape = (*kernel.shape[:3], kernel.shape[3] // groups)
    blocks = zip(jnp.split(x, groups, 3), jnp.split(cotangent, groups, 3), strict=True)
    parts = [_products(*block, shape, options) for block in blocks]
    return jnp.concatenate(parts, 3).astype(kernel.dtype)


def _products(
    x: Array, cotangent: Array, shape: tuple[int, ...], options: Options
) -> Array:
    """Adds up the products of blocks, where the batch is too large to be unfolded at once: some
    images, of large maps some rows of them.

    Two blocks of a large map, 16 rows of cotangent each, with a 3x3 kernel at stride 1:
    the rows of `x` that they read overlap by `d (kh - 1)`, the reach of the kernel.

        cotangent   | 0 .. 15 | 16 .. 31 |
        x           | 0 ..... 17 |
                              | 16 ..... 33 |

    Where the batch may be sharded, a block has images of every device, and images are
    kept apart to the end: there is one sum over devices and not one for each block.
    """
    batch, h, w, _ = cotangent.shape
    taps = shape[1] * shape[2] + shape[0] * shape[3]
    row_bytes = w * taps * x.dtype.itemsize
    whole = batch * h * row_bytes <= _WHOLE
    rows = h if whole or h * w <= _SMALL_MAP else min(h, _ROWS)
    blocks = -(-h // rows)
    together = batch if whole else _images_together(batch, rows * row_bytes)
    turns = 1 if whole else batch // together  # of no images, too
    span = options.num_inputs(rows, shape[0], 0)
    size = (
        options.num_inputs(blocks * rows, shape[0], 0),
        options.num_inputs(w, shape[1], 1),
    )
    x = pad_to(x, options.pads, size)
    unfold = _all_taps
    if options.stride[0] == 1 and shape[2] >= _FEW_CHANNELS:
        unfold = _taps_on_both_sides
    if blocks == turns == 1:
        return unfold(x, cotangent, "bhwm,bhwn->mn", shape, options)
    cotangent = pad_to(cotangent, ((0, 0), (0, 0)), (blocks * rows, w))
    apart = _devices(batch) > 1
    form = "bhwm,bhwn->bmn" if apart else "bhwm,bhwn->mn"

    def cut(images: Array, turn: Array, start: Array, count: int) -> Array:
        some = images.reshape(together, turns, *images.shape[1:])
        some = lax.dynamic_index_in_dim(some, turn, 1, keepdims=False)
        return lax.dynamic_slice_in_dim(some, start, count, 1)

    def add_block(total: Array, step: Array) -> tuple[Array, None]:
        turn, start = step // blocks, step % blocks * rows
        seen = cut(x, turn, start * options.stride[0], span)
        part = cut(cotangent, turn, start, rows)
        return total + unfold(seen, part, form, shape, options), None

    zeros = jnp.zeros((together,) * apart + shape, wide_dtype(x))
    total, _ = lax.scan(add_block, zeros, jnp.arange(turns * blocks))
    return total.sum(0) if apart else total


def _devices(batch: int) -> int:
    """Over how many devices a batch may be sharded."""
    count = shards()
    return 1 if batch % count else count


def _images_together(batch: int, image_bytes: int) -> int:
    """How many images a block has: as many of each device as a cache holds, unfolded.

    Args:
      batch: images.
      image_bytes: of one image's part of a block, unfolded.

    Returns:
      A divisor of the batch.
    """
    devices = _devices(batch)
    own = batch // devices
    fitting = [
        n for n in range(1, own + 1) if not own % n and n * image_bytes <= _CACHE
    ]
    return devices * max(fitting, default=1)


def _all_taps(
    x: Array, cotangent: Array, form: str, shape: tuple[int, ...], options: Options
) -> Array:
    """Unfolds the patches of `x`: `kh kw C` numbers at each pixel of the cotangent.

    Tap `(u, v)` of output pixel `(i, j)` reads `x` at `(s i + d u, s j + d v)`. For a 3x3
    kernel with stride 2, one output pixel to the right is two input pixels:

        row s i + d u of x   0  1  2  3  4  5  6
        v = 0                *     *     *
        v = 1                   *     *     *
        v = 2                      *     *     *
        j                    0     1     2
    """
    height, width, channels, features = shape
    _, h, w, _ = cotangent.shape
    patches = []
    for u in range(height):
        lines = x[:, options.seen(u, h, 0)]
        patches += [lines[:, :, options.seen(v, w, 1)] for v in range(width)]
    product = _product(form, jnp.concatenate(patches, -1), cotangent)
    return product.reshape(*product.shape[:-2], height, width, channels, features)


def _taps_on_both_sides(
    x: Array, cotangent: Array, form: str, shape: tuple[int, ...], options: Options
) -> Array:
    """Unfolds `x` along its rows, and the cotangent along its columns.

    Where rows are a stride of 1 apart, it is the same to move the image up or the
    cotangent down. So one product of `kw C` with `kh F` numbers at each pixel holds all
    taps, and only `kw + kh` moved copies are made instead of `kw kh`. Rows of `x`, and
    beside each the rows of the cotangent that it meets, for three rows of taps and three
    rows of output (`.`: zeros):

        row of x          0   1   2   3   4
        v = 0, 1, 2       x0  x1  x2  x3  x4     moved to the left by d v: `kw C` numbers
        u = 0             g0  g1  g2  .   .
        u = 1             .   g0  g1  g2  .      moved down by d u: `kh F` numbers
        u = 2             .   .   g0  g1  g2
    """
    height, width, channels, features = shape
    _, h, w, _ = cotangent.shape
    reach = options.reach(height, 0)
    left = [x[:, :, options.seen(v, w, 1)] for v in range(width)]
    padded = jnp.pad(cotangent, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    starts = [reach - u * options.dilation[0] for u in range(height)]
    right = [padded[:, start : start + h + reach] for start in starts]
    product = _product(form, jnp.concatenate(left, -1), jnp.concatenate(right, -1))
    product = product.reshape(*product.shape[:-2], width, channels, height, features)
    return jnp.moveaxis(product, -2, -4)


def _product(form: str, left: Array, right: Array) -> Array:
    return jnp.einsum(form, left, right, preferred_element_type=wide_dtype(left))
