"""Local response normalisation: against a loop, PyTorch, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.normalization.local_response import (
    local_response_norm,
    local_response_norm_within,
)

X = np.random.default_rng(0).normal(size=(2, 3, 4, 7)).astype(np.float32)
OPTIONS = {"size": 5, "alpha": 0.5, "beta": 0.75, "k": 1.0}


def by_loop(x, size, alpha, beta, k):
    y = np.zeros_like(x)
    for c in range(x.shape[-1]):
        first, stop = max(0, c - size // 2), min(x.shape[-1], c + (size + 1) // 2)
        squares = (x[..., first:stop] ** 2).sum(-1)
        y[..., c] = x[..., c] / (k + alpha / size * squares) ** beta
    return y


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_each_channel_is_divided_by_its_neighbours(size):
    options = OPTIONS | {"size": size}
    expected = by_loop(X, **options)
    apply = lambda x: local_response_norm(x, **options)
    np.testing.assert_allclose(apply(X), expected, rtol=2e-6)
    np.testing.assert_allclose(jax.jit(apply)(X), expected, rtol=2e-6)
    np.testing.assert_allclose(jax.vmap(apply)(X[:, None])[:, 0], expected, rtol=2e-6)


def test_the_gradient_is_that_of_differences():
    direction = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    total = lambda x: (local_response_norm(x, **OPTIONS) * direction).sum()
    step = 1e-2 * direction
    differences = (total(X + step) - total(X - step)) / 2
    found = (jax.grad(total)(jnp.asarray(X)) * step).sum()
    np.testing.assert_allclose(found, differences, rtol=1e-3)


def test_half_precision_is_computed_in_single(float16):
    x = jnp.full((1, 1, 1, 8), 300.0, float16)
    y = local_response_norm(x, alpha=1.0)
    assert y.dtype == float16
    np.testing.assert_allclose(y[0, 0, 0, 4], 300 / (1 + 300.0**2) ** 0.75, rtol=2e-3)


@pytest.mark.parametrize(
    ("x", "size", "sentence"),
    [
        (jnp.zeros((3, 4, 5)), 5, r"x is float32 \(3, 4, 5\)"),
        (jnp.zeros((1, 3, 4, 5), jnp.int32), 5, "x is int32"),
        (jnp.zeros((1, 3, 4, 5)), 0, "size is 0"),
    ],
)
def test_what_is_no_map_is_refused(x, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        local_response_norm(x, size=size)


@pytest.mark.parity
@pytest.mark.parametrize("size", [3, 4, 5])
def test_numbers_are_those_of_pytorch(size):
    torch = pytest.importorskip("torch")
    options = OPTIONS | {"size": size}
    layer = torch.nn.LocalResponseNorm(**options)
    expected = layer(torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
    found = local_response_norm(X, **options)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), rtol=1e-5)


def within_by_loop(x, size, alpha, beta, k):
    y, reach = np.zeros_like(x), size // 2
    for i, j in np.ndindex(x.shape[1:3]):
        around = x[
            :, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1
        ]
        squares = (around**2).sum((1, 2))
        y[:, i, j] = x[:, i, j] / (k + alpha / size**2 * squares) ** beta
    return y


@pytest.mark.parametrize("size", [1, 3, 5])
def test_each_pixel_is_divided_by_those_around_it(size):
    options = OPTIONS | {"size": size}
    expected = within_by_loop(X, **options)
    apply = lambda x: local_response_norm_within(x, **options)
    np.testing.assert_allclose(jax.jit(apply)(X), expected, rtol=2e-6)
    found = jax.jit(jax.vmap(apply))(X[:, None])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_gradient_within_a_channel_is_that_of_differences():
    options = OPTIONS | {"size": 3, "alpha": 5.0}
    direction = np.random.default_rng(1).normal(size=X.shape)
    step = 1e-4 * direction
    total = lambda x: (within_by_loop(x, **options) * direction).sum()
    differences = (total(X + step) - total(X - step)) / 2
    apply = lambda x: (local_response_norm_within(x, **options) * direction).sum()
    found = (np.asarray(jax.jit(jax.grad(apply))(X), float) * step).sum()
    np.testing.assert_allclose(found, differences, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "size", "sentence"),
    [
        (jnp.zeros((3, 4, 5)), 3, r"x has shape \(3, 4, 5\)"),
        (jnp.zeros((1, 3, 4, 5), jnp.int32), 3, "x is of dtype int32"),
        (jnp.zeros((1, 3, 4, 5)), 4, "size is 4; allowed are odd numbers"),
        (jnp.zeros((1, 3, 4, 5)), -1, "size is -1"),
    ],
)
def test_windows_of_even_sides_are_refused(x, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        local_response_norm_within(x, size=size)
