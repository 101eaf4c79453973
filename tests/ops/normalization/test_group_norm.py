"""Group normalisation beside its definition and beside Flax."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.normalization.channels import group_norm


def random_case():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (2, 5, 4, 6)).astype(np.float32)
    return x, *rng.normal(1, 0.3, (2, 6)).astype(np.float32)


def test_it_is_that_of_flax_and_so_is_its_gradient():
    x, scale, bias = random_case()
    weight = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    module = nn.GroupNorm(num_groups=3, epsilon=1e-5)
    params = {"params": {"scale": scale, "bias": bias}}
    with jax.numpy_rank_promotion("allow"):
        theirs = jax.value_and_grad(lambda x: (weight * module.apply(params, x)).sum())
        expected, expected_gradient = theirs(x)
    ours = jax.value_and_grad(
        lambda x: (weight * group_norm(x, scale, bias, groups=3)).sum()
    )
    found, gradient = jax.jit(ours)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5)


def test_images_of_a_batch_do_not_see_each_other():
    x, scale, bias = random_case()
    both = group_norm(jnp.asarray(x), scale, bias, groups=2)
    alone = group_norm(jnp.asarray(x[1:]), scale, bias, groups=2)
    np.testing.assert_allclose(both[1:], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [0, 4])
def test_groups_that_do_not_divide_the_channels_are_refused(groups):
    x, scale, bias = random_case()
    sentence = f"groups is {groups} for 6 channels; allowed is a divisor of them"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        group_norm(jnp.asarray(x), scale, bias, groups=groups)
