"""The moving average of a network: its formula, its warm-up, what it waits for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.training.optimizers.ema import EMA, has_updated
from segjax.training.optimizers.schedule_free import evaluated_params
from segjax.training.state import TrainState
from segjax.training.step import apply_gradients, state_of

VALUES = (3.0, -1.0, 4.0, 1.5, -5.0)


def follow(ema, values, updates=None):
    """The average after a network took these values."""
    average = ema.start({"kernel": jnp.zeros(2)}, {"mean": jnp.zeros(1)})
    for value, is_update in zip(values, updates or [True] * len(values), strict=True):
        new = {"kernel": jnp.full(2, value)}, {"mean": jnp.full(1, 2 * value)}
        average = ema.update(average, *new, jnp.asarray(is_update))
    return average


def test_parameters_and_statistics_follow_the_formula():
    expected = 0.0
    for value in VALUES:
        expected = 0.9 * expected + 0.1 * value
    average = follow(EMA(decay=0.9, warmup=False), VALUES)
    np.testing.assert_allclose(average["params"]["kernel"], expected, rtol=1e-6)
    np.testing.assert_allclose(average["batch_stats"]["mean"], 2 * expected, rtol=1e-6)
    assert int(average["count"]) == len(VALUES)


def test_the_warm_up_is_that_of_tensorflow_until_the_decay_is_reached():
    expected = 0.0
    for n, value in enumerate(VALUES):
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    average = follow(EMA(decay=0.3), VALUES)
    np.testing.assert_allclose(average["params"]["kernel"], expected, rtol=1e-6)


def test_steps_without_an_update_leave_it_bit_for_bit():
    ema = EMA(decay=0.7)
    with_pauses = follow(ema, (0.1, 9.0, 0.2, 9.0), (True, False, True, False))
    jax.tree.map(np.testing.assert_array_equal, with_pauses, follow(ema, (0.1, 0.2)))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: optax.chain(x)])
def test_accumulation_is_recognised_wherever_it_lies(wrap):
    optimizer = wrap(optax.MultiSteps(optax.sgd(1.0), 2))
    params = {"bias": jnp.ones(1)}
    state = optimizer.init(params)
    seen = []
    for _ in range(4):
        _, new = optimizer.update(params, state, params)
        seen.append(bool(has_updated(state, new)))
        state = new
    assert seen == [False, True, False, True]
    assert has_updated(optax.sgd(1.0).init(params), optax.sgd(1.0).init(params))


def test_small_steps_are_not_rounded_away_in_bfloat16():
    ema = EMA(decay=0.999, warmup=False)
    ones = {"kernel": jnp.ones(1, jnp.bfloat16)}
    average = ema.start(ones, {})
    assert average["params"]["kernel"].dtype == jnp.float32
    for _ in range(3):
        average = ema.update(average, {"kernel": 2 * ones["kernel"]}, {}, True)
    np.testing.assert_allclose(average["params"]["kernel"], 2 - 0.999**3, rtol=1e-6)
    state = TrainState(jnp.int32(3), ones, {}, (), ema=average)
    assert state.evaluated()["params"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"decay": 1.0}, "decay must be a number, at least 0 and less than 1, got 1.0"),
        ({"decay": "0.9"}, "got '0.9'"),
        ({"warmup": 10}, "warmup must be True or False, got 10"),
    ],
)
def test_values_that_are_no_average_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        EMA(**arguments)


def test_without_an_average_the_state_is_what_it_was():
    state = state_of({"params": {"bias": jnp.ones(1)}}, optax.sgd(1.0))
    assert state.to_dict().keys() == {"step", "params", "batch_stats", "opt_state"}
    assert state.evaluated() == state.variables
    with_average = state_of({"params": {"bias": jnp.ones(1)}}, optax.sgd(1.0), EMA())
    assert with_average.to_dict().keys() == state.to_dict().keys() | {"ema"}


def test_what_is_averaged_of_a_schedule_free_optimizer_is_what_it_evaluates():
    import optax.contrib

    optimizer = optax.contrib.schedule_free_sgd(0.3)
    ema = EMA(decay=0.5, warmup=False)
    state = state_of({"params": {"bias": jnp.ones(1)}}, optimizer, ema)
    expected = 1.0
    for _ in range(3):
        state = apply_gradients(state, state.params, {}, optimizer, ema)
        found = evaluated_params(state.opt_state, state.params)["bias"]
        expected = 0.5 * expected + 0.5 * float(found[0])
    np.testing.assert_allclose(state.evaluated()["params"]["bias"], expected, rtol=1e-6)
