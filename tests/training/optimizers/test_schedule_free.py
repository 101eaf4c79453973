"""Schedule-free optimizers are evaluated where their authors evaluate them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from segjax.training.optimizers.schedule_free import (
    FIELDS,
    evaluated_params,
    is_schedule_free,
)
from segjax.training.step import make_train_step, state_of

RATE, B1 = 0.1, 0.8
MASK = {"head": {"kernel": True, "bias": False}}


def bare():
    return optax.contrib.schedule_free_sgd(RATE, b1=B1)


WRAPPED = {
    "bare": lambda: bare(),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1e6), bare()),
    "accumulated": lambda: optax.MultiSteps(bare(), 1),
    "masked": lambda: optax.masked(bare(), MASK),
    "partition": lambda: optax.partition(
        {"free": bare(), "plain": optax.sgd(RATE)},
        {"head": {"kernel": "free", "bias": "plain"}},
    ),
}


def trained(optimizer, steps=4):
    """Parameters and state after a few steps down a parabola."""
    params = {"head": {"kernel": jnp.full(2, 3.0), "bias": jnp.full(1, 2.0)}}
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def x_of(start, steps=4):
    """`x` after these steps by the equations of section 3 of the paper."""
    x = z = start
    for t in range(1, steps + 1):
        y = (1 - B1) * z + B1 * x
        z = z - RATE * y
        x = (1 - 1 / t) * x + z / t
    return x


@pytest.mark.parametrize("name", WRAPPED)
def test_x_is_found_within_other_transformations(name):
    params, state = trained(WRAPPED[name]())
    found = evaluated_params(state, params)["head"]
    np.testing.assert_allclose(found["kernel"], x_of(3.0), rtol=1e-5)
    assert float(jnp.abs(found["kernel"] - params["head"]["kernel"]).min()) > 1e-3
    if name in ("masked", "partition"):
        np.testing.assert_array_equal(found["bias"], params["head"]["bias"])
    else:
        np.testing.assert_allclose(found["bias"], x_of(2.0), rtol=1e-5)


def test_a_checkpoint_tells_x_without_the_optimizer():
    params, state = trained(WRAPPED["masked"]())
    inner = state.inner_state
    assert inner._fields == FIELDS
    z = {"head": {"kernel": inner.z["head"]["kernel"], "bias": None}}
    plain = {"inner_state": [None, inner._asdict() | {"z": z}]}
    assert is_schedule_free(plain)
    jax.tree.map(
        np.testing.assert_array_equal,
        evaluated_params(plain, params),
        evaluated_params(state, params),
    )


def test_devices_give_the_bits_that_the_host_gives():
    """XLA's quotient of an array and a number is not NumPy's."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=1000).astype(np.float32)}
    state = optax.contrib.schedule_free_sgd(RATE, b1=0.9).init(params)
    z = {"kernel": rng.normal(size=1000).astype(np.float32)}
    on_host = evaluated_params(jax.device_get(state)._replace(z=z), params)["kernel"]
    on_device = evaluated_params(*jax.device_put((state._replace(z=z), params)))
    assert isinstance(on_device["kernel"], jax.Array)
    np.testing.assert_array_equal(on_device["kernel"], on_host)
    assert not isinstance(on_host, jax.Array)


def test_what_has_not_moved_is_evaluated_to_the_bit_where_it_is():
    params = {"kernel": np.linspace(-1, 1, 99, dtype=np.float32)}
    state = optax.contrib.schedule_free_sgd(RATE, b1=0.9).init(params)
    found = evaluated_params(state, params)
    np.testing.assert_array_equal(found["kernel"], params["kernel"])


@pytest.mark.parametrize("within", [False, True])
def test_sam_is_evaluated_where_it_improves_and_not_where_it_looks(within):
    """By the equations of Foret et al.: `w - rate * gradient(w + 0.05)`, each second step."""
    outer = optax.sgd(RATE)
    if within:  # after its first step y, z and x are one
        outer = optax.contrib.schedule_free(outer, RATE, b1=0.5)
    looks = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    optimizer = optax.chain(optax.contrib.sam(outer, looks))
    start = {"bias": jnp.full(1, 2.0)}
    for steps, expected in ((1, 2.0), (2, 2.0 - RATE * 2.05)):
        params, state = start, optimizer.init(start)
        for _ in range(steps):
            updates, state = optimizer.update(params, state, params)
            params = optax.apply_updates(params, updates)
        plain = [jax.tree.map(np.asarray, x._asdict()) for x in state]
        for each in (state, jax.device_get(state), *[plain] * (not within)):
            found = evaluated_params(each, params)["bias"]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        traced = jax.jit(evaluated_params)(state, params)["bias"]
        np.testing.assert_allclose(traced, expected, rtol=1e-6)
    assert is_schedule_free(state) == within


def test_other_optimizers_are_evaluated_at_their_parameters():
    params, state = trained(optax.adam(RATE))
    assert not is_schedule_free(state)
    assert evaluated_params(state, params) is params


class Normalized(nn.Module):
    """One convolution and a batch norm that remembers nothing but the last batch."""

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(2, (1, 1), name="conv")(image)
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.0, name="norm")
        return {"logits": norm(x), "features": x}


def test_running_statistics_are_those_of_the_parameters_that_are_evaluated():
    model, optimizer = Normalized(), optax.contrib.schedule_free_sgd(0.1, b1=0.5)
    image = 1 + jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    loss = lambda outputs, batch: jnp.mean((outputs["features"] - batch["image"]) ** 2)
    rate = optax.constant_schedule(0.1)
    step = jax.jit(make_train_step(model, loss, optimizer, rate, 0))
    variables = model.init(jax.random.key(1), image, train=False)
    state = state_of(variables, optimizer)
    for _ in range(3):
        state, _ = step(state, {"image": image})
    x = state.evaluated()["params"]["conv"]
    expected = jnp.mean(image) * x["kernel"][0, 0, 0] + x["bias"]
    found = state.evaluated()["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    y = state.params["conv"]
    assert not np.allclose(found, jnp.mean(image) * y["kernel"][0, 0, 0] + y["bias"])
