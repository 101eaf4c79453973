"""The training step: pure, random by the step alone, right in its dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.layers.norm import Norm
from segjax.losses import LOSSES
from segjax.models import UNet
from segjax.training.optimizers import optim
from segjax.training.optimizers.builder import make_optimizer
from segjax.training.step import init_state, make_train_step

SIDE = 16


def small(**changes):
    arguments = {"features": (4, 8), "padding": "SAME", "dropout_rate": 0.0}
    return UNet(num_classes=2, **(arguments | changes))


@functools.cache
def parts(model, optimizer=None, seed=0):
    schedule = optim.constant(learning_rate=1e-2, num_steps=10)
    optimizer = optimizer or make_optimizer({"name": "adam"}, schedule)
    loss = LOSSES["cross_entropy"]
    step = jax.jit(make_train_step(model, loss, optimizer, schedule, seed))
    init = lambda: init_state(model, optimizer, (4, SIDE, SIDE, 1), seed)
    state = jax.jit(init)()
    return state, step


def batch_of(seed=0, size=4):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((size, SIDE, SIDE, 1)).astype(np.float32)
    return {
        "image": jnp.asarray(image),
        "label": jnp.asarray(image[..., 0] > 0, jnp.int32),
        "weight": jnp.ones((size, SIDE, SIDE)),
        "record": jnp.arange(size),
    }


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_step_is_pure_and_repeatable():
    state, step = parts(small(norm=Norm(momentum=0.95), dropout_rate=0.5))
    before = jax.device_get(state)
    first, second = step(state, batch_of()), step(state, batch_of())
    assert_same(first, second)
    assert_same(jax.device_get(state), before)


def test_steps_are_counted():
    state, step = parts(small())
    state, _ = step(*step(state, batch_of())[:1], batch_of())
    assert int(state.step) == 2
    assert state.step.dtype == jnp.int32


def test_dropout_differs_from_step_to_step_and_by_seed():
    model = small(dropout_rate=0.5)
    state, step = parts(model)
    loss = lambda state, step: float(step(state, batch_of())[1]["loss"])
    later = state.replace(step=state.step + 1)
    assert loss(state, step) != loss(later, step)
    assert loss(later, step) == loss(later, step)
    _, other_seed = parts(model, seed=1)
    assert loss(state, step) != loss(state, other_seed)


def test_without_dropout_the_step_number_does_not_matter():
    state, step = parts(small())
    later = state.replace(step=state.step + 5)
    assert float(step(state, batch_of())[1]["loss"]) == float(
        step(later, batch_of())[1]["loss"]
    )


@pytest.mark.parametrize("norm", [None, Norm()], ids=["bias", "norm"])
def test_bfloat16_computes_and_float32_keeps(norm):
    model = small(dtype=jnp.bfloat16, norm=norm)
    state, step = parts(model)
    new, metrics = step(state, batch_of())
    assert {x.dtype for x in jax.tree.leaves((new.params, new.batch_stats))} == {
        jnp.dtype(jnp.float32)
    }
    assert {x.dtype for x in metrics.values()} == {jnp.dtype(jnp.float32)}
    apply = functools.partial(model.apply, state.variables, train=False)
    lowered = jax.jit(apply).lower(batch_of()["image"])
    assert lowered.out_info["logits"].dtype == jnp.float32
    assert "bf16" in lowered.as_text()
    _, full = parts(small(norm=norm))[1](state, batch_of())
    assert float(metrics["loss"]) == pytest.approx(float(full["loss"]), rel=2e-2)


def test_batch_statistics_follow_the_batch():
    state, step = parts(small(norm=Norm(momentum=0.95)))
    new, _ = step(state, batch_of())
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()), state.batch_stats, new.batch_stats
    )
    assert all(jax.tree.leaves(changed))


def test_without_batch_norm_there_are_no_statistics():
    state, step = parts(small())
    assert state.batch_stats == {}
    assert step(state, batch_of())[0].batch_stats == {}


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_steps_decrease_the_loss(name):
    schedule = optim.constant(learning_rate=1e-2, num_steps=10)
    optimizer = make_optimizer({"name": name}, schedule)
    state, step = parts(small(), optimizer)
    losses = []
    for _ in range(10):
        state, metrics = step(state, batch_of())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.95 * losses[0]


def test_metrics_report_rate_and_norm_before_clipping():
    schedule = optim.with_warmup(optim.constant(learning_rate=1.0, num_steps=8), 4)
    model = small()
    optimizer = make_optimizer({"name": "sgd", "clip_norm": 1e-6}, schedule)
    loss = LOSSES["cross_entropy"]
    step = jax.jit(make_train_step(model, loss, optimizer, schedule, 0))
    state = jax.jit(lambda: init_state(model, optimizer, (4, SIDE, SIDE, 1), 0))()
    _, metrics = step(state, batch_of())
    assert metrics.keys() == {"loss", "gradient_norm", "learning_rate"}
    assert float(metrics["learning_rate"]) == 0.25

    def loss_of(params):
        logits = model.apply({"params": params}, batch_of()["image"], train=False)
        return loss(logits, batch_of())

    expected = optax.tree.norm(jax.jit(jax.grad(loss_of))(state.params))
    assert float(metrics["gradient_norm"]) == pytest.approx(float(expected), rel=1e-4)


def test_the_seed_decides_on_the_weights():
    kernel = lambda seed: parts(small(), seed=seed)[0].params["logits"]["kernel"]
    np.testing.assert_array_equal(kernel(0), kernel(0))
    assert (kernel(0) != kernel(1)).all()
