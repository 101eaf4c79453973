"""Functions of slots beside the same done to all, and what is left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.cpu import valid_slots
from segjax.ops.cpu.valid_slots import ROWS, on_valid_slots

IMAGES, SLOTS, FEATURES = 2, 37, 3
KERNEL = jnp.asarray(np.random.default_rng(0).normal(size=(FEATURES, 5)), jnp.float32)
X = jnp.asarray(
    np.random.default_rng(1).normal(size=(IMAGES, SLOTS, FEATURES)), jnp.float32
)


def function(x, kernel=KERNEL):
    return jnp.tanh(x @ kernel)


def valid_of(*counts):
    return jnp.arange(SLOTS)[None] < jnp.array(counts)[:, None]


SCATTERED = jnp.asarray(np.random.default_rng(2).random((IMAGES, SLOTS)) < 0.3)


@pytest.mark.parametrize(
    "valid",
    [*(valid_of(*x) for x in [(0, 0), (1, 0), (5, 20), (37, 36)]), SCATTERED],
    ids=["none", "one", "some", "nearly all", "scattered"],
)
def test_values_and_gradients_are_those_of_all_slots_at_once(valid) -> None:
    def total(x, kernel, whole):
        apply = lambda x: function(x, kernel)
        y = apply(x) if whole else on_valid_slots(apply, valid, x)
        return jnp.sum(jnp.where(valid[..., None], y, 0) ** 2), y

    run = jax.jit(jax.grad(total, (0, 1), has_aux=True), static_argnums=2)
    found, y = run(X, KERNEL, False)
    expected, _ = run(X, KERNEL, True)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y, np.where(valid[..., None], function(X), 0), atol=1e-6)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((0, 0), 0), ((1, 0), 1), ((3, ROWS - 3), 1), ((3, ROWS - 2), 2)],
)
def test_groups_with_nothing_in_them_are_left_out(counts, expected) -> None:
    seen = []

    def watched(x):
        jax.debug.callback(lambda: seen.append(x.shape))
        return function(x)

    jax.jit(lambda x, valid: on_valid_slots(watched, valid, x))(X, valid_of(*counts))
    jax.effects_barrier()
    assert seen == [(1, ROWS, FEATURES)] * expected


def test_a_slot_may_have_more_than_one_array() -> None:
    valid = SCATTERED
    kinds = jnp.arange(IMAGES * SLOTS).reshape(IMAGES, SLOTS) % 5
    apply = lambda x, kinds: jnp.take_along_axis(function(x), kinds[..., None], -1)
    expected = jnp.where(valid[..., None], apply(X, kinds), 0)
    found = on_valid_slots(apply, valid, X, kinds)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_accelerator_does_all_slots_at_once(monkeypatch) -> None:
    expected = on_valid_slots(function, valid_of(3, 9), X)
    shapes = []

    def noted(x):
        shapes.append(x.shape)
        return function(x)

    monkeypatch.setattr(valid_slots.jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(on_valid_slots(noted, valid_of(3, 9), X), expected)
    assert shapes == [X.shape]


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"valid has the shape \[2, 3\] and slots"):
        on_valid_slots(function, jnp.ones((2, 3), bool), X)
