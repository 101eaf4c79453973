"""Initial weights: their spread, and that they stay what they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.initializers import bilinear, he_normal, normal, zeros
from segjax.ops.resizing.resize import bilinear_kernel

KEY = jax.random.key(7)
FIRST = ["-0x1.050d3c0000000p-2", "-0x1.8d44b40000000p-4"]
"""The first weights of a 3x3 kernel with that key."""


def test_he_normal_draws_what_it_always_drew():
    """Checkpoints and measurements of earlier versions rest on these very bits."""
    found = np.asarray(he_normal()(KEY, (3, 3, 2, 2), jnp.float32)).ravel()
    seed = np.random.SeedSequence(np.asarray(jax.random.key_data(KEY)).tolist())
    sampled = np.random.Generator(np.random.Philox(seed)).standard_normal(
        36, np.float32
    )
    np.testing.assert_array_equal(found, sampled * np.float32(np.sqrt(2.0 / 18)))
    first = [float(x).hex() for x in found[:2]]
    assert first == FIRST


@pytest.mark.parametrize(
    ("initializer", "std"),
    [(he_normal(), np.sqrt(2 / 450)), (he_normal(8), 0.5), (normal(0.01), 0.01)],
    ids=["fan in of the kernel", "fan in given", "normal"],
)
def test_weights_have_the_spread_that_is_asked_for(initializer, std):
    weights = initializer(KEY, (3, 3, 50, 100), jnp.float32)
    np.testing.assert_allclose(weights.std(), std, rtol=0.02)
    np.testing.assert_allclose(weights.mean(), 0.0, atol=0.02 * std)


def test_two_keys_give_two_samples():
    sample = lambda seed: normal(1.0)(jax.random.key(seed), (8,), jnp.float32)
    np.testing.assert_array_equal(sample(1), sample(1))
    assert (sample(1) != sample(2)).all()


@pytest.mark.parametrize("initializer", [he_normal(), normal(0.1), zeros(), bilinear()])
def test_weights_have_the_dtype_that_is_asked_for(initializer):
    assert initializer(KEY, (4, 4, 2, 2), jnp.bfloat16).dtype == jnp.bfloat16


def test_zeros_are_zero():
    assert not zeros()(KEY, (3, 4), jnp.float32).any()


def test_bilinear_interpolates_each_channel_by_itself():
    kernel = bilinear()(KEY, (4, 4, 3, 3), jnp.float32)
    np.testing.assert_array_equal(kernel, bilinear_kernel(4, channels=3))
    assert not kernel[:, :, 0, 1].any()


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 4, 2, 3)])
def test_bilinear_refuses_a_kernel_that_it_cannot_fill(shape):
    with pytest.raises(ValueError, match="taps, taps, C, C"):
        bilinear()(KEY, shape, jnp.float32)


def test_a_negative_spread_is_refused():
    with pytest.raises(ValueError, match="std is at least 0, got -1"):
        normal(-1.0)
