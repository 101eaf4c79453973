"""A convolution in strips is the stock convolution, whatever the padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.convolve import conv
from segjax.ops.cpu.row_strips import strip_conv, strip_count


def random_array(*shape: int) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    ("pads", "dilation", "height"),
    [
        (((1, 1), (1, 1)), (1, 1), 8),
        (((0, 0), (0, 0)), (1, 1), 10),
        (((2, 1), (0, 3)), (1, 1), 7),
        (((2, 2), (2, 2)), (2, 2), 8),
    ],
)
def test_strips_give_what_the_whole_map_gives(
    pads: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    height: int,
    count: int,
) -> None:
    x, kernel = random_array(2, height, 9, 3), random_array(3, 3, 3, 5)
    options = Options((1, 1), pads, dilation, 1)
    whole = stock_conv(x, kernel, options)
    strips = strip_conv(x, kernel, options, count)
    assert strips.shape == whole.shape
    np.testing.assert_allclose(strips, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kernel", "count"),
    [
        ((1, 256, 256, 32), (3, 3, 32, 32), 2),
        ((1, 128, 128, 32), (3, 3, 32, 64), 4),
        ((1, 1024, 512, 32), (3, 3, 32, 32), 1),  # rows are long enough
        ((1, 256, 256, 32), (1, 1, 32, 2), 1),  # nothing but a matrix product
        ((1, 256, 256, 1), (3, 3, 1, 32), 1),  # too few channels
        ((1, 128, 128, 64), (3, 3, 64, 64), 1),  # enough channels
        ((1, 64, 64, 32), (3, 3, 32, 32), 1),  # too small a map
        ((1, 257, 256, 32), (3, 3, 32, 32), 1),  # an odd height
    ],
)
def test_only_maps_with_short_rows_are_cut(
    shape: tuple[int, ...], kernel: tuple[int, ...], count: int
) -> None:
    margin = kernel[0] // 2
    options = Options((1, 1), ((margin, margin), (margin, margin)), (1, 1), 1)
    assert strip_count(jnp.zeros(shape), jnp.zeros(kernel), options) == count


def test_a_convolution_that_is_cut_keeps_its_values_and_gradients() -> None:
    x, kernel = random_array(1, 128, 128, 32), random_array(3, 3, 32, 2)
    options = Options((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert strip_count(x, kernel, options) > 1

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv(x, kernel, padding=1)

    def stock(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return stock_conv(x, kernel, options)

    y, pull = jax.vjp(ours, x, kernel)
    expected, expected_pull = jax.vjp(stock, x, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)
    for ours_, stock_ in zip(pull(expected), expected_pull(expected), strict=True):
        assert jnp.abs(ours_ - stock_).max() <= 1e-5 * jnp.abs(stock_).max()
