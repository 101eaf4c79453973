"""Every optimizer that Optax publishes trains by its name, or is refused by a sentence.

docs/optimizers.md has the outcome; `python tests/training/optimizers/test_optax_names.py` prints its table.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import optax.contrib
import pytest

from segjax.errors import UserError
from segjax.runs.listing import optax_optimizers
from segjax.training.experiment import check_optimizer, optimizer_from
from segjax.training.state import TrainState

PAGE = Path(__file__).resolve().parents[3] / "docs" / "optimizers.md"
SGD = {"name": "sgd"}
ARGUMENTS = {
    "optax:lbfgs": {"linesearch": None},
    "optax:noisy_sgd": {"seed": 0},
    "optax.contrib:dpsgd": {"l2_norm_clip": 1.0, "noise_multiplier": 0.1, "seed": 0},
    "optax.contrib:mechanize": {"base_optimizer": SGD},
    "optax.contrib:sam": {
        "optimizer": SGD,
        "adv_optimizer": {"name": "optax:sgd", "learning_rate": 0.05},
    },
    "optax.contrib:schedule_free": {"base_optimizer": {"name": "adamw", "b1": 0.0}},
    "optax.contrib:split_real_and_imaginary": {"inner": SGD},
}
"""What those need that have no default, or another one that can train."""
PARAMS = {
    "conv": {"kernel": jnp.full((1, 1, 16, 16), 1e-3), "bias": jnp.full((16,), 1e-3)}
}
"""Small, since some begin with a rate of 1e-6 of their own."""
TARGET = jax.tree.map(
    lambda x: jnp.asarray(np.random.default_rng(0).normal(size=x.shape), jnp.float32),
    PARAMS,
)


NAMES = tuple(optax_optimizers())


def loss(params):
    error = jax.tree.map(lambda x, y: jnp.square(x - y).mean(), params, TARGET)
    return sum(jax.tree.leaves(error))


def made(name, rate=1e-2, **keys):
    """The optimizer, checked as before a run."""
    group = {"name": name, **ARGUMENTS.get(name, {}), **keys}
    schedule = {"name": "constant", "learning_rate": rate}
    config = ml_collections.ConfigDict({"optimizer": group, "schedule": schedule})
    optimizer = optimizer_from(config, optax.constant_schedule(rate))
    state = lambda: TrainState(jnp.zeros(()), PARAMS, {}, optimizer.init(PARAMS))
    check_optimizer(config, optimizer, state)
    return optimizer


def trained(optimizer, compiled=lambda function: function):
    """The parameters after two steps."""
    params = PARAMS
    state = optimizer.init(params)
    update = compiled(optimizer.update)
    for _ in range(2):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = update(gradient, state, params, value=value)
        params = optax.apply_updates(params, updates)
    return params["conv"]


def turned(one, other, start):
    """Whether two results lie in other directions from a start; steps may differ in length."""
    first, second = ((x - start) / np.linalg.norm(x - start) for x in (one, other))
    return not np.allclose(first, second, rtol=1e-3, atol=1e-5)


def row(name):
    """A row of the table: does it train, what does weight decay act on, rates by pattern."""
    try:
        optimizer = made(name, clip_norm=10.0)
    except UserError as error:
        return f"| `{name}` | no: {error} | | |"
    plain = trained(optimizer)
    quick = functools.partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0}
    )
    for key, leaf in trained(optimizer, quick).items():
        np.testing.assert_allclose(leaf, plain[key], rtol=1e-3, atol=1e-6)
    assert made(name, clip_norm=10.0, accumulate=2)
    assert all(np.isfinite(leaf).all() for leaf in plain.values())
    assert not np.array_equal(plain["kernel"], PARAMS["conv"]["kernel"]), name
    try:
        decayed = trained(made(name, clip_norm=10.0, weight_decay=1e4))
        of = [k for k in plain if turned(plain[k], decayed[k], PARAMS["conv"][k])]
        decay = {1: "kernels, or `decay_on`", 2: "all", 0: "nothing"}[len(of)]
    except UserError:
        decay = "of its own name"
    try:
        frozen = trained(made(name, clip_norm=10.0, multipliers=(("*/bias", 0.0),)))
        assert np.array_equal(frozen["bias"], PARAMS["conv"]["bias"])
        rates = "yes"
    except UserError:
        inner = {"base_optimizer", "optimizer"} & ARGUMENTS.get(name, {}).keys()
        rates = "within" if inner else "no"
    given = ARGUMENTS.get(name)
    keys = f", with {', '.join(f'`{key}`' for key in given)}" if given else ""
    return f"| `{name}` | yes{keys} | {decay} | {rates} |"


@pytest.mark.quick(12)
@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_of_optax_does_what_the_page_says(name):
    assert row(name) in PAGE.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    for each in NAMES:
        sys.stdout.write(f"{row(each)}\n")
        sys.stdout.flush()
