"""A branch gives what its function gives, under every transformation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.forms import lowering_for
from segjax.ops.cpu.materialization import materialize

X = jnp.asarray([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


def twice(x: jax.Array, factors: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return x * factors["a"], jnp.sin(x).sum(-1)


def branched(x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
    product, sines = materialize(twice, x, {"a": x + 1}, condition=condition)
    return product.sum(-1) + sines


def plain(x: jax.Array) -> jax.Array:
    product, sines = twice(x, {"a": x + 1})
    return product.sum(-1) + sines


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_a_branch_is_its_function(transform) -> None:
    np.testing.assert_allclose(transform(branched)(X), plain(X), rtol=1e-6)
    gradient = jax.grad(lambda x: transform(branched)(x).sum())(X)
    expected = jax.grad(lambda x: plain(x).sum())(X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_where_the_condition_does_not_hold_come_zeros() -> None:
    np.testing.assert_array_equal(branched(X, jnp.array(False)), 0)
    found = jax.vmap(branched)(X, jnp.array([True, False]))
    np.testing.assert_allclose(found, [plain(X)[0], 0], rtol=1e-6)


@pytest.mark.parametrize(("platform", "branches"), [("cpu", 1), ("gpu", 0)])
@pytest.mark.parametrize("condition", [None, jnp.array(False)], ids=["none", "false"])
def test_only_cpus_get_a_branch(platform: str, branches: int, condition) -> None:
    with lowering_for(platform):
        traced = str(jax.make_jaxpr(lambda x: branched(x, condition))(X))
        found = branched(X, condition)
    assert traced.count("cond[") == branches
    expected = plain(X) if condition is None else 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)
