"""Enlarging by a transposed convolution: with and without a parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.upsample import Upsample

X = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4, 2)), jnp.float32)


def test_fixed_has_no_parameters_and_learned_begins_like_it():
    fixed, learned = Upsample(2, 4), Upsample(2, 4, learned=True)
    assert not fixed.init(jax.random.key(0), X)
    y, variables = learned.init_with_output(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (4, 4, 2, 2)}}
    np.testing.assert_allclose(y, fixed.apply({}, X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_the_computation_has_the_dtype_that_is_asked_for(learned):
    layer = Upsample(2, 4, learned=learned, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), X)
    assert y.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables)} <= {jnp.dtype(jnp.float32)}
