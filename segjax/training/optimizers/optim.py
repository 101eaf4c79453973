"""Optimizers and learning-rate schedules, by the names that configs use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from segjax.types import Array, is_count


def constant(*, learning_rate: float, num_steps: int) -> optax.Schedule:
    """The same rate at every step.

    Args:
      learning_rate: the rate.
      num_steps: steps of the run.

    Returns:
      The rate by step.
    """
    del num_steps
    _check_rate("learning_rate", learning_rate)
    return optax.constant_schedule(learning_rate)


def step(
    *, learning_rate: float, num_steps: int, every: int, gamma: float = 0.1
) -> optax.Schedule:
    """Caffe's "step": `learning_rate * gamma ** floor(step / every)`.

    Args:
      learning_rate: the first rate.
      num_steps: steps of the run.
      every: steps between two drops.
      gamma: what a drop multiplies the rate by.

    Returns:
      The rate by step.
    """
    del num_steps
    _check_rate("learning_rate", learning_rate)
    if not is_count(every):
        raise ValueError(
            f"every is an integer number of steps, at least 1, got {every!r}"
        )
    _check("gamma", gamma, 0 < gamma <= 1, "greater than 0 and at most 1")
    return optax.exponential_decay(learning_rate, every, gamma, staircase=True)


def multistep(
    *,
    learning_rate: float,
    num_steps: int,
    milestones: Sequence[int],
    gamma: float = 0.1,
) -> optax.Schedule:
    """Constant, and multiplied by `gamma` at given steps, as detectors are trained.

    Args:
      learning_rate: the first rate.
      num_steps: steps of the run.
      milestones: steps at which the rate drops, ascending.
      gamma: what a drop multiplies the rate by.

    Returns:
      The rate by step.
    """
    del num_steps
    _check_rate("learning_rate", learning_rate)
    steps = tuple(milestones)
    if not all(map(is_count, steps)) or list(steps) != sorted(set(steps)):
        raise ValueError(
            f"milestones holds increasing integers of at least 1, got {milestones!r}"
        )
    _check("gamma", gamma, 0 < gamma <= 1, "greater than 0 and at most 1")
    return optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(steps, gamma))


def poly(
    *, learning_rate: float, num_steps: int, power: float = 0.9, end: float = 0.0
) -> optax.Schedule:
    """`(learning_rate - end) * (1 - step / num_steps) ** power + end`.

    Chen et al. 2017, arXiv 1606.00915, section 4.1.

    Args:
      learning_rate: the first rate.
      num_steps: steps until the last rate is reached.
      power: 1 is a straight line.
      end: the last rate.

    Returns:
      The rate by step.
    """
    _check_rate("learning_rate", learning_rate)
    _check_rate("end", end)
    _check("power", power, power > 0, "greater than 0")
    return optax.polynomial_schedule(learning_rate, end, power, num_steps)


def cosine(*, learning_rate: float, num_steps: int, end: float = 0.0) -> optax.Schedule:
    """Half a cosine from `learning_rate` to `end` (Loshchilov, Hutter 2017, arXiv 1608.03983).

    Args:
      learning_rate: the first rate.
      num_steps: steps until the last rate is reached.
      end: the last rate.

    Returns:
      The rate by step.
    """
    _check_rate("learning_rate", learning_rate)
    _check_rate("end", end)
    alpha = end / learning_rate if learning_rate else 0.0
    return optax.cosine_decay_schedule(learning_rate, num_steps, alpha)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "step": step,
    "multistep": multistep,
    "poly": poly,
    "cosine": cosine,
}

RATES = ("peak_value", "init_value", "value")
"""Names that schedules of Optax have for the rate."""
STEPS = ("decay_steps", "transition_steps")
"""Their names for the steps until the last rate."""


def with_warmup(schedule: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    """Rises linearly to the schedule's first rate, then follows it from its start."""
    if warmup_steps == 0:
        return schedule
    rise = optax.linear_schedule(0.0, float(schedule(0)), warmup_steps)
    shifted = lambda count: rise(count + 1)
    return optax.join_schedules([shifted, schedule], [warmup_steps])


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum.

    The rate stays outside the velocity (PyTorch's form), which is Caffe's own form as long
    as the rate is constant. `weight_decay` is L2 added to the gradient before the momentum,
    as the papers of the Caffe years have it.

    Args:
      learning_rate: the rate by step.
      momentum: fraction of the velocity that a step keeps.
      nesterov: whether the gradient is taken ahead (Nesterov 1983).

    Returns:
      The optimizer.
    """
    return optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
}
"""Optimizers with a name of their own; all others of Optax are "optax:lion" and the like."""


def _check(name: str, value: float, is_right: bool, allowed: str) -> None:
    if not is_right:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def _check_rate(name: str, value: float) -> None:
    _check(name, value, 0 <= value < math.inf, "a finite number of at least 0")


def global_norm(tree: optax.Params) -> Array:
    """The Euclidean norm of all leaves together, float32."""
    return optax.tree.norm(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
