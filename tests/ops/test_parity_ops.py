"""Pooling and resizing beside PyTorch, live, on random shapes and options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.pooling.adaptive import adaptive_avg_pool, adaptive_max_pool
from segjax.ops.pooling.windowed import (
    avg_pool,
    max_pool_with_indices,
    max_unpool,
)
from segjax.ops.resizing.resize import resize_bilinear, resize_nearest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
functional = torch.nn.functional

# torch's names of bfloat16 are not numpy's; both sides meet in float32.
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Both sides round once, from sums that differ in their last bits: one bfloat16 apart.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2**-7}


def random_map(rng, ties=False):
    shape = (rng.integers(1, 3), *rng.integers(5, 24, 2), rng.integers(1, 4))
    if ties:
        return rng.integers(-1, 2, shape).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32)


def random_windows(rng):
    window = rng.integers(1, 5, 2)
    return {
        "stride": tuple(rng.integers(1, 5, 2).tolist()),
        "padding": tuple((rng.integers(0, 5, 2) % (window // 2 + 1)).tolist()),
        "ceil_mode": bool(rng.integers(2)),
    }, tuple(window.tolist())


def to_torch(x, dtype="float32"):
    x = torch.from_numpy(np.array(jnp.moveaxis(x, -1, 1), np.float32))
    return x.to(getattr(torch, dtype))


def to_numpy(x):
    return np.moveaxis(x.detach().float().numpy(), 1, -1)


def assert_same(ours, theirs, x, dtype="float32"):
    """Compares values, and gradients along a random cotangent."""
    value, pullback = jax.vjp(jax.jit(ours), jnp.asarray(x, DTYPES[dtype]))
    reference = to_torch(x, dtype).requires_grad_()
    expected = theirs(reference)
    step = TOLERANCE[dtype]
    np.testing.assert_allclose(
        np.array(value, np.float32), to_numpy(expected), rtol=step, atol=step
    )
    if dtype == "float32":
        cotangent = np.random.default_rng(0).normal(size=value.shape)
        cotangent = jnp.asarray(cotangent, jnp.float32)
        expected.backward(to_torch(cotangent))
        gradient = pullback(cotangent)[0]
        np.testing.assert_allclose(gradient, to_numpy(reference.grad), atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pooling_indices_and_unpooling_are_those_of_torch(seed, ties):
    rng = np.random.default_rng(seed)
    x = random_map(rng, ties)
    options, window = random_windows(rng)
    assert_same(
        lambda x: max_pool_with_indices(x, window=window, **options)[0],
        lambda x: functional.max_pool2d(x, window, **options),
        x,
    )
    values, indices = max_pool_with_indices(jnp.array(x), window=window, **options)
    _, places = functional.max_pool2d(
        to_torch(x), window, return_indices=True, **options
    )
    np.testing.assert_array_equal(indices, np.moveaxis(places.numpy(), 1, -1))
    # Overlapping windows are reported apart by values of their own.
    height, width = x.shape[1:3]
    own = rng.normal(size=values.shape).astype(np.float32)
    planes = to_torch(own).flatten(2)
    flat = np.zeros((*planes.shape[:2], height * width), np.float32)
    for plane, value, place in zip(
        flat.reshape(-1, height * width),
        planes.flatten(0, 1).numpy(),
        places.flatten(2).flatten(0, 1).numpy(),
        strict=True,
    ):
        for v, p in zip(value, place, strict=True):
            plane[p] = v
    expected = np.moveaxis(flat.reshape(*planes.shape[:2], height, width), 1, -1)
    result = max_unpool(jnp.array(own), indices, size=(height, width))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [(8, 6), (9, 7)])
def test_unpooling_is_that_of_torch(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    values, indices = max_pool_with_indices(jnp.array(x))
    reference, places = functional.max_pool2d(to_torch(x), 2, return_indices=True)
    expected = to_numpy(functional.max_unpool2d(reference, places, 2, output_size=size))
    for window in (None, 2):
        result = max_unpool(values, indices, size=size, window=window)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("options", [{}, {"stride": 1, "padding": 1}], ids=str)
def test_nan_is_where_torch_has_it(options):
    x = np.random.default_rng(0).normal(size=(1, 9, 9, 2)).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    for window in (2, 3):
        values, indices = max_pool_with_indices(jnp.array(x), window=window, **options)
        reference, places = functional.max_pool2d(
            to_torch(x), window, return_indices=True, **options
        )
        np.testing.assert_array_equal(values, to_numpy(reference))
        np.testing.assert_array_equal(indices, np.moveaxis(places.numpy(), 1, -1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", DTYPES)
def test_average_pooling_is_that_of_torch(seed, dtype):
    rng = np.random.default_rng(seed)
    x = random_map(rng)
    options, window = random_windows(rng)
    options["count_include_pad"] = bool(seed % 2)
    assert_same(
        lambda x: avg_pool(x, window=window, **options),
        lambda x: functional.avg_pool2d(x, window, **options),
        x,
        dtype,
    )


@pytest.mark.parametrize("seed", range(4))
def test_adaptive_pooling_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    x = random_map(rng)
    size = tuple(rng.integers(1, 8, 2).tolist())
    for ours, theirs in (
        (adaptive_avg_pool, functional.adaptive_avg_pool2d),
        (adaptive_max_pool, functional.adaptive_max_pool2d),
    ):
        assert_same(
            lambda x, f=ours: f(x, size=size), lambda x, f=theirs: f(x, size), x
        )


@pytest.mark.parametrize("seed", range(3, 8))
@pytest.mark.parametrize("dtype", DTYPES)
def test_resizing_is_that_of_torch(seed, dtype):
    rng = np.random.default_rng(seed)
    x = random_map(rng)
    size = tuple(rng.integers(1, 60, 2).tolist())
    assert_same(
        lambda x: resize_nearest(x, size=size),
        lambda x: functional.interpolate(x, size, mode="nearest"),
        x,
        dtype,
    )
    for corners in (False, True):
        assert_same(
            lambda x, c=corners: resize_bilinear(x, size=size, align_corners=c),
            lambda x, c=corners: functional.interpolate(
                x, size, mode="bilinear", align_corners=c
            ),
            x,
            dtype,
        )
