"""Optimizers and learning-rate schedules, by the names that configs use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from segjax.training.lr_multipliers import Multipliers, with_multipliers
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


def with_warmup(schedule: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    """Rises linearly to the schedule's first rate, then follows it from its start."""
    if warmup_steps == 0:
        return schedule
    rise = optax.linear_schedule(0.0, float(schedule(0)), warmup_steps)
    shifted = lambda count: rise(count + 1)
    return optax.join_schedules([shifted, schedule], [warmup_steps])


def decays(params: optax.Params) -> optax.Params:
    """Marks what weight decay acts on: kernels, not biases or scales of a norm."""

    def is_kernel(path: tuple[jax.tree_util.DictKey, ...], _: Array) -> bool:
        return path[-1].key == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def sgd(
    *,
    schedule: optax.Schedule,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    multipliers: Multipliers = (),
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum.

    Weight decay is L2 added to the gradient before the momentum, as the papers of the
    Caffe years have it. The rate stays outside the velocity (PyTorch's form), which is
    Caffe's own form as long as the rate is constant.

    Args:
      schedule: the rate by step.
      momentum: fraction of the velocity that a step keeps.
      nesterov: whether the gradient is taken ahead (Nesterov 1983).
      weight_decay: factor of the L2 term, on kernels alone.
      clip_norm: where given, gradients with a larger Euclidean norm are scaled to it.
      multipliers: factors of the rate of some parameters, see `with_multipliers`.
      accumulate: batches whose mean gradient makes one update (Caffe's `iter_size`); the
        rate is that of the step of the first.

    Returns:
      The optimizer.
    """
    _check_fraction("momentum", momentum)
    _check_rate("weight_decay", weight_decay)
    make = lambda schedule: optax.chain(
        *_clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decays),
        optax.sgd(schedule, momentum=momentum, nesterov=nesterov),
    )
    return _assembled(make, schedule, multipliers, accumulate)


def adam(
    *,
    schedule: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip_norm: float | None = None,
    multipliers: Multipliers = (),
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Adam (Kingma, Ba 2015, arXiv 1412.6980).

    Args:
      schedule: the rate by step.
      b1: decay of the mean of the gradients.
      b2: decay of the mean of their squares.
      eps: added to the root of that mean.
      clip_norm: where given, gradients with a larger Euclidean norm are scaled to it.
      multipliers: factors of the rate of some parameters, see `with_multipliers`.
      accumulate: batches whose mean gradient makes one update (Caffe's `iter_size`); the
        rate is that of the step of the first.

    Returns:
      The optimizer.
    """
    _check_adam(b1, b2, eps)
    make = lambda schedule: optax.chain(
        *_clip(clip_norm), optax.adam(schedule, b1, b2, eps)
    )
    return _assembled(make, schedule, multipliers, accumulate)


def adamw(
    *,
    schedule: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    clip_norm: float | None = None,
    multipliers: Multipliers = (),
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019, arXiv 1711.05101).

    Args:
      schedule: the rate by step.
      b1: decay of the mean of the gradients.
      b2: decay of the mean of their squares.
      eps: added to the root of that mean.
      weight_decay: fraction of a kernel that a step takes away, times the rate.
      clip_norm: where given, gradients with a larger Euclidean norm are scaled to it.
      multipliers: factors of the rate of some parameters, see `with_multipliers`.
      accumulate: batches whose mean gradient makes one update (Caffe's `iter_size`); the
        rate is that of the step of the first.

    Returns:
      The optimizer.
    """
    _check_adam(b1, b2, eps)
    _check_rate("weight_decay", weight_decay)
    make = lambda schedule: optax.chain(
        *_clip(clip_norm),
        optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay, mask=decays),
    )
    return _assembled(make, schedule, multipliers, accumulate)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def _assembled(
    make: Callable[[optax.Schedule], optax.GradientTransformation],
    schedule: optax.Schedule,
    multipliers: Multipliers,
    accumulate: int,
) -> optax.GradientTransformation:
    """Adds to an optimizer what all of them can do.

    Gradients of `accumulate` batches are averaged before anything else, clipping
    included, is done with them (Caffe's `iter_size`); between two updates the
    parameters stay. Steps are still counted in batches: the schedule is read at the
    first batch of each update, so a run ends with the same rate, however many it
    accumulates.
    """
    if not is_count(accumulate):
        raise ValueError(
            f"accumulate is an integer number of batches, at least 1, got {accumulate!r}"
        )
    by_update = lambda count: schedule(count * accumulate)
    optimizer = with_multipliers(
        make(schedule if accumulate == 1 else by_update), multipliers
    )
    if accumulate == 1:
        return optimizer
    steps = optax.MultiSteps(optimizer, accumulate)
    return optax.GradientTransformation(steps.init, steps.update)


def _clip(norm: float | None) -> list[optax.GradientTransformation]:
    if norm is None:
        return []
    _check("clip_norm", norm, norm > 0, "greater than 0, or None")
    return [optax.clip_by_global_norm(norm)]


def _check(name: str, value: float, is_right: bool, allowed: str) -> None:
    if not is_right:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def _check_rate(name: str, value: float) -> None:
    _check(name, value, 0 <= value < math.inf, "a finite number of at least 0")


def _check_fraction(name: str, value: float) -> None:
    _check(name, value, 0 <= value < 1, "at least 0 and less than 1")


def _check_adam(b1: float, b2: float, eps: float) -> None:
    _check_fraction("b1", b1)
    _check_fraction("b2", b2)
    _check("eps", eps, eps > 0, "greater than 0")


def global_norm(tree: optax.Params) -> Array:
    """The Euclidean norm of all leaves together, float32."""
    return optax.tree.norm(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
