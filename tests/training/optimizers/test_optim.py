"""Schedules by their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training.optimizers import optim


def test_the_rate_drops_at_the_steps_that_are_named():
    schedule = optim.multistep(
        learning_rate=0.5, num_steps=40, milestones=(10, 30), gamma=0.1
    )
    rates = [float(schedule(step)) for step in (0, 9, 10, 29, 30, 100)]
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


@pytest.mark.parametrize("at", [(30, 10), (10, 10), (0,), (2.5,), (True,)])
def test_steps_of_drops_rise(at):
    with pytest.raises(ValueError, match="milestones holds increasing integers"):
        optim.multistep(learning_rate=0.5, num_steps=40, milestones=at)


def test_poly_follows_its_formula():
    schedule = optim.poly(learning_rate=0.5, num_steps=40, power=0.9, end=0.01)
    for step in (0, 1, 17, 39, 40, 100):
        fraction = min(step, 40) / 40
        expected = (0.5 - 0.01) * (1 - fraction) ** 0.9 + 0.01
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_cosine_follows_its_formula():
    schedule = optim.cosine(learning_rate=0.5, num_steps=40, end=0.1)
    for step in (0, 1, 20, 39, 40, 100):
        fraction = min(step, 40) / 40
        expected = 0.1 + 0.4 * (1 + np.cos(np.pi * fraction)) / 2
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_step_falls_by_gamma_every_so_many_steps():
    schedule = optim.step(learning_rate=1.0, num_steps=100, every=10, gamma=0.5)
    values = [float(schedule(step)) for step in (0, 9, 10, 19, 20, 35)]
    assert values == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.25, 0.125])


def test_constant_stays():
    schedule = optim.constant(learning_rate=0.3, num_steps=10)
    assert [float(schedule(step)) for step in (0, 9, 99)] == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("name", sorted(optim.SCHEDULES))
def test_warmup_rises_linearly_and_then_follows_the_schedule(name):
    more = {"step": {"every": 7}, "multistep": {"milestones": (7, 12)}}.get(name, {})
    inner = optim.SCHEDULES[name](learning_rate=0.8, num_steps=20, **more)
    schedule = optim.with_warmup(inner, 4)
    rise = [float(schedule(step)) for step in range(4)]
    assert rise == pytest.approx([0.2, 0.4, 0.6, 0.8])
    for step in (0, 1, 10, 19):
        assert float(schedule(4 + step)) == pytest.approx(float(inner(step)), rel=1e-5)


def test_no_warmup_is_the_schedule_itself():
    inner = optim.constant(learning_rate=0.3, num_steps=10)
    assert optim.with_warmup(inner, 0) is inner


def test_global_norm_is_euclidean_over_all_leaves():
    assert float(optim.global_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])})) == 5


@pytest.mark.parametrize(
    ("make", "arguments", "sentence"),
    [
        (
            optim.constant,
            {"learning_rate": -1e-3},
            "learning_rate must be a finite number of at least 0",
        ),
        (
            optim.constant,
            {"learning_rate": float("nan")},
            "learning_rate must be .*got nan",
        ),
        (optim.step, {"learning_rate": 1.0, "every": 0}, "every is an integer .*got 0"),
        (
            optim.step,
            {"learning_rate": 1.0, "every": 2.5},
            "every is an integer .*got 2.5",
        ),
        (optim.step, {"learning_rate": 1.0, "every": 2, "gamma": 0.0}, "gamma must be"),
        (
            optim.poly,
            {"learning_rate": 1.0, "power": 0},
            "power must be greater than 0, got 0",
        ),
        (optim.poly, {"learning_rate": 1.0, "end": -1.0}, "end must be"),
        (optim.cosine, {"learning_rate": 1.0, "end": -1.0}, "end must be"),
    ],
)
def test_schedules_refuse_what_is_no_rate(make, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(num_steps=10, **arguments)
