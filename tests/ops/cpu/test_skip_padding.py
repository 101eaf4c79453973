"""Taps outside the map are left out, and nothing else: the stock numbers remain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.cpu.skip_padding import is_sparse, seen_taps_conv

CHANNELS = 64
"""As few as the fast form takes."""


def random_array(*shape: int, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("window", "pads", "dilation"),
    [
        ((3, 3), ((4, 4), (4, 4)), (4, 4)),
        ((3, 3), ((7, 7), (9, 9)), (7, 9)),  # one tap is left
        ((3, 3), ((5, 1), (2, 6)), (3, 4)),
        ((2, 4), ((3, 3), (5, 9)), (5, 4)),
        ((3, 3), ((0, 16), (8, 8)), (8, 4)),  # the first taps only
        ((3, 3), ((12, 2), (4, 4)), (7, 4)),  # the last taps only
        ((3, 3), ((20, 20), (4, 4)), (4, 4)),  # outputs that see nothing
    ],
)
def test_values_and_gradients_are_those_of_the_stock_convolution(
    window: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
) -> None:
    x, kernel = (
        random_array(2, 6, 8, CHANNELS),
        random_array(*window, CHANNELS, CHANNELS, seed=1),
    )
    options = Options((1, 1), pads, dilation, 1)
    assert is_sparse(x, kernel, options)

    def both(apply):
        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(random_array(*y.shape, seed=2))

    found = jax.jit(
        lambda: both(lambda x, k: conv(x, k, padding=pads, dilation=dilation))
    )()
    expected = jax.jit(lambda: both(lambda x, k: stock_conv(x, k, options)))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_transposed_convolution_is_the_adjoint() -> None:
    x, y = random_array(1, 6, 6, CHANNELS), random_array(1, 6, 6, CHANNELS, seed=1)
    kernel = random_array(3, 3, CHANNELS, CHANNELS, seed=2)
    geometry = {"padding": 4, "dilation": 4}
    there = jnp.vdot(conv(x, kernel, **geometry), y)
    back = jnp.vdot(x, conv_transpose(y, kernel, **geometry))
    np.testing.assert_allclose(there, back, rtol=1e-4)


def test_batches_are_convolved_one_by_one() -> None:
    x, kernel = (
        random_array(2, 1, 6, 6, CHANNELS),
        random_array(3, 3, CHANNELS, CHANNELS, seed=1),
    )
    alone = [conv(one, kernel, padding=5, dilation=5) for one in x]
    mapped = jax.vmap(lambda one: conv(one, kernel, padding=5, dilation=5))(x)
    np.testing.assert_allclose(mapped, jnp.stack(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels", "dilation", "sparse"),
    [
        (32, 256, 12, True),
        (64, 256, 24, True),
        (64, 256, 2, False),  # nearly all taps see something
        (32, 16, 12, False),  # too few channels
        (32, 256, 1, False),
    ],
)
def test_only_sparse_convolutions_take_the_form(
    size: int, channels: int, dilation: int, sparse: bool
) -> None:
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    pads = ((dilation, dilation), (dilation, dilation))
    options = Options((1, 1), pads, (dilation, dilation), 1)
    assert is_sparse(x, kernel, options) == sparse


def test_half_precision_is_kept() -> None:
    x = random_array(1, 6, 6, CHANNELS).astype(jnp.bfloat16)
    kernel = random_array(3, 3, CHANNELS, CHANNELS, seed=1).astype(jnp.bfloat16)
    options = Options((1, 1), ((4, 4), (4, 4)), (4, 4), 1)
    assert seen_taps_conv(x, kernel, options).dtype == jnp.bfloat16
