"""Batch normalisation against Flax's own, and its gradient against differences."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.layers.norm import BatchNorm
from segjax.ops.normalization.channels import batch_norm


def feature_map(shape=(2, 5, 4, 3), dtype=np.float32):
    rng = np.random.default_rng(0)
    return jnp.asarray(3.0 + 2.0 * rng.standard_normal(shape), dtype)


def test_output_and_running_statistics_are_those_of_flax():
    x = feature_map()
    ours, theirs = BatchNorm(), nn.BatchNorm(momentum=0.9)
    variables = ours.init(jax.random.key(0), x, train=False)
    expected, updated = theirs.apply(
        variables, x, use_running_average=False, mutable=["batch_stats"]
    )
    got, stats = ours.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            stats["batch_stats"][name], updated["batch_stats"][name], rtol=1e-5
        )
    after = {"params": variables["params"], **stats}
    np.testing.assert_allclose(
        ours.apply(after, x, train=False),
        theirs.apply(after, x, use_running_average=True),
        atol=1e-5,
    )


def test_an_epsilon_of_0_divides_by_no_variance_of_0():
    x = feature_map()
    norm = BatchNorm(epsilon=0.0)
    variables = norm.init(jax.random.key(0), x, train=False)
    variables["batch_stats"]["var"] = jnp.array([4.0, 0.0, 1e-30])
    y = norm.apply(variables, x, train=False)
    np.testing.assert_allclose(y[..., 0], x[..., 0] / 2, rtol=1e-6)
    assert not np.asarray(y[..., 1]).any()
    np.testing.assert_allclose(y[..., 2], x[..., 2] * 1e15, rtol=1e-5)
    variables["batch_stats"]["var"] = jnp.array([4.0, 0.0, 1.0])
    sum_of = lambda v, x: norm.apply(v, x, train=False).sum()
    gradients = jax.grad(sum_of, (0, 1))(variables, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_gradient_agrees_with_differences_and_with_flax():
    x = feature_map()
    scale, bias = jnp.array([1.0, 0.5, 2.0]), jnp.array([0.0, 1.0, -1.0])
    weight = feature_map() - 3.0
    ours = lambda *a: (batch_norm(*a)[0] * weight).sum()
    with jax.enable_x64():
        wide = [jnp.asarray(np.asarray(a), np.float64) for a in (x, scale, bias)]
        check_grads(ours, wide, order=1, modes=["rev"], rtol=1e-6)

    def flax_s(x, scale, bias):
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)},
        }
        y, _ = nn.BatchNorm().apply(
            variables, x, use_running_average=False, mutable=["batch_stats"]
        )
        return (y * weight).sum()

    got = jax.grad(ours, (0, 1, 2))(x, scale, bias)
    expected = jax.grad(flax_s, (0, 1, 2))(x, scale, bias)
    # Sums over 40 pixels: 40 eps, 5e-6, and twice that as Flax subtracts squares of means.
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=2e-5)


def test_statistics_are_float32_and_of_the_whole_batch_in_bfloat16():
    x = feature_map(dtype=jnp.bfloat16)
    y, mean, variance = batch_norm(x, jnp.ones(3), jnp.zeros(3))
    assert (y.dtype, mean.dtype, variance.dtype) == ("bfloat16", "float32", "float32")
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-4)


def test_no_gradient_flows_through_the_statistics():
    x = feature_map()
    total = lambda x: sum(s.sum() for s in batch_norm(x, jnp.ones(3), jnp.zeros(3))[1:])
    assert not np.asarray(jax.grad(total)(x)).any()


def test_a_scale_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"scale and bias \[C\]"):
        batch_norm(feature_map(), jnp.ones(2), jnp.zeros(3))


@pytest.mark.parametrize("mean", [0.0, 3.0, 10.0, 50.0])
def test_bfloat16_rounds_inputs_and_outputs_and_nothing_between(mean):
    """The same values in float32 differ by the rounding of the result alone."""
    rng = np.random.default_rng(0)
    shape = (2, 16, 16, 3)
    x = jnp.asarray(mean + rng.standard_normal(shape), jnp.bfloat16)
    dy = jnp.asarray(rng.standard_normal(shape), jnp.bfloat16)
    scale, bias = jnp.array([1.0, 0.5, 2.0]), jnp.array([0.0, 1.0, -1.0])

    def forward_and_backward(x, dy):
        y, pull = jax.vjp(lambda *a: batch_norm(*a)[0], x, scale, bias)
        return y, *pull(dy)

    wide = forward_and_backward(x.astype(jnp.float32), dy.astype(jnp.float32))
    for got, exact in zip(forward_and_backward(x, dy), wide, strict=True):
        rounding = 2.0**-8 * np.abs(exact) + 1e-4
        assert (np.abs(np.asarray(got, np.float32) - exact) <= rounding).all()
