"""A kernel of one pixel is a product of matrices: the stock numbers, and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.cpu.pointwise import is_pointwise


def random_array(*shape: int, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3), (5, 1)])
def test_values_and_gradients_are_those_of_the_stock_convolution(
    stride: tuple[int, int],
) -> None:
    x, kernel = random_array(2, 7, 8, 5), random_array(1, 1, 5, 6, seed=1)
    options = Options(stride, ((0, 0), (0, 0)), (1, 1), 1)

    def both(apply):
        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(random_array(*y.shape, seed=2))

    found = jax.jit(lambda: both(lambda x, k: conv(x, k, stride=stride)))()
    expected = jax.jit(lambda: both(lambda x, k: stock_conv(x, k, options)))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_transposed_convolution_spreads_its_pixels(extra: int) -> None:
    x, kernel = random_array(1, 3, 4, 6), random_array(1, 1, 5, 6, seed=1)
    y = conv_transpose(x, kernel, stride=2, output_padding=extra)
    assert y.shape == (1, 5 + extra, 7 + extra, 5)
    np.testing.assert_allclose(
        y[:, :5:2, :7:2], x @ kernel[0, 0].T, rtol=1e-5, atol=1e-5
    )
    assert not y[:, 1::2].any()
    assert not y[:, :, 1::2].any()


def test_padding_and_groups_are_left_to_the_stock_form() -> None:
    kernel = random_array(1, 1, 4, 4)
    plain = Options((2, 2), ((0, 0), (0, 0)), (1, 1), 1)
    assert is_pointwise(kernel, plain)
    assert not is_pointwise(kernel, plain._replace(groups=2))
    assert not is_pointwise(kernel, plain._replace(pads=((0, 1), (0, 0))))
    assert not is_pointwise(random_array(1, 3, 4, 4), plain)
