"""Winograd's minimal filtering: the stock numbers, and gradients, to rounding."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.forms import lowering_for
from segjax.ops.base.lax_conv import Options, stock_conv, stock_conv_transpose
from segjax.ops.convolution.convolve import conv
from segjax.ops.cpu import winograd as module
from segjax.ops.cpu.winograd import (
    F2,
    F4,
    Transform,
    is_worth_it,
    winograd,
    winograd_kernel_gradient,
    winograd_transpose,
)

OPTIONS = (
    Options((1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    Options((1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    Options((1, 1), ((0, 3), (2, 1)), (1, 1), 1),
    Options((1, 1), ((2, 2), (3, 3)), (2, 3), 1),
)
SIZES = (7, 10), (12, 9)
NAMES = {"winograd", "winograd_transpose", "winograd_kernel_gradient"}


def random_array(*shape: int, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("transform", [F2, F4])
def test_the_matrices_are_those_of_a_convolution_of_whole_numbers(
    transform: Transform,
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(-9, 9, transform.tile + 2)
    taps = rng.integers(-9, 9, 3)
    products = (transform.kernel @ taps) * (transform.image @ pixels)
    expected = np.convolve(pixels, taps[::-1], "valid")
    np.testing.assert_allclose(transform.result @ products, expected, atol=1e-9)


def test_tiles_that_mostly_miss_the_image_are_not_worth_it() -> None:
    kernel = jax.ShapeDtypeStruct((3, 3, 512, 512), jnp.float32)
    for side, dilation, expected in ((17, 8, False), (33, 8, False), (64, 8, True)):
        x = jax.ShapeDtypeStruct((2, side, side, 512), jnp.float32)
        pads = ((dilation, dilation),) * 2
        options = Options((1, 1), pads, (dilation, dilation), 1)
        with lowering_for("cpu"):
            assert is_worth_it(x, kernel, options) is expected


def test_maps_whose_tiles_would_fill_the_memory_are_not_worth_it() -> None:
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    for batch, side, expected in ((1, 512, True), (1, 1024, False), (8, 512, True)):
        x = jax.ShapeDtypeStruct((batch, side, side, 64), jnp.float32)
        with lowering_for("cpu"):
            assert is_worth_it(x, kernel, OPTIONS[0]) is expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", OPTIONS)
def test_values_and_gradients_are_those_of_the_stock_convolution(
    size: tuple[int, int], options: Options
) -> None:
    x, kernel = random_array(2, *size, 5), random_array(3, 3, 5, 6, seed=1)
    expected, pull = jax.vjp(lambda x, k: stock_conv(x, k, options), x, kernel)
    cotangent = random_array(*expected.shape, seed=2)
    image, of_kernel = pull(cotangent)

    @jax.jit
    def found(x, kernel, cotangent):
        return (
            winograd(x, kernel, options),
            winograd_transpose(cotangent, kernel, options, size),
            *(
                winograd_kernel_gradient(x, cotangent, kernel, options, transform)
                for transform in (F2, F4)
            ),
        )

    for value, wanted, atol in zip(
        found(x, kernel, cotangent),
        (expected, image, of_kernel, of_kernel),
        (2e-5, 2e-5, 1e-4, 5e-4),
        strict=True,
    ):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=atol)
    np.testing.assert_allclose(
        stock_conv_transpose(cotangent, kernel, options, size), image, atol=2e-5
    )


def test_a_large_convolution_takes_it_for_itself_and_its_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "_CACHE", 1)  # of several images one after the other
    x, kernel = random_array(2, 18, 32, 64), random_array(3, 3, 64, 65, seed=1)
    cotangent = random_array(2, 18, 32, 65, seed=2)

    def both(apply):
        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(cotangent)

    mine = lambda: both(lambda x, k: conv(x, k, padding=1))
    expected = jax.jit(lambda: both(lambda x, k: stock_conv(x, k, OPTIONS[0])))()
    with lowering_for("cpu", shards=1):
        names = set(re.findall(r"name=(\w+)", str(jax.make_jaxpr(mine)())))
        found = jax.jit(mine)()
    assert names >= NAMES
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5 * abs(wanted).max())


def test_small_maps_few_channels_and_other_kernels_keep_their_forms() -> None:
    def taken(size=128, channels=64, window=3, dtype=jnp.float32, **options):
        x = jax.ShapeDtypeStruct((1, size, size, channels), dtype)
        kernel = jax.ShapeDtypeStruct((window, window, channels, 64), dtype)
        with lowering_for("cpu", shards=options.pop("shards", 1)):
            return is_worth_it(x, kernel, OPTIONS[0]._replace(**options))

    assert taken()
    assert taken(dilation=(8, 8), pads=((8, 8), (8, 8)))
    assert not taken(size=96)
    assert not taken(channels=63)
    assert not taken(size=10, channels=2**20)  # its kernel would be most of the work
    assert not taken(window=5)
    assert not taken(dtype=jnp.bfloat16)
    assert not taken(stride=(2, 2))
    assert not taken(dilation=(9, 9))
    assert not taken(groups=2)
    assert not taken(shards=2)
