"""One step of training, as a pure function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from segjax.training.gathering import gathered, gathering
from segjax.training.optimizers.ema import EMA, has_updated
from segjax.training.optimizers.optim import global_norm
from segjax.training.optimizers.schedule_free import is_schedule_free
from segjax.training.state import TrainState, begun
from segjax.types import Array, Outputs

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Loss = Callable[[Outputs, Batch], Array | tuple[Array, Metrics]]
"""One number to minimise, alone or with its parts by name."""

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
"""From a state and a batch to the next state and metrics, of which one is `loss`."""

Forward = Callable[[nn.Module, Mapping[str, Any], Batch, Array], tuple[Outputs, Any]]
"""From network, variables, batch and key to outputs and changed collections."""


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int, int],
    seed: int,
) -> TrainState:
    """Makes the state before the first step; traceable.

    Args:
      model: the network.
      optimizer: the optimizer.
      image_shape: (B, H, W, C) of a batch.
      seed: of the initial weights.

    Returns:
      The state at step 0.
    """
    return state_of(init_variables(model, image_shape, seed), optimizer)


def init_variables(
    model: nn.Module, image_shape: tuple[int, int, int, int], seed: int
) -> Mapping[str, Any]:
    """The collections of an untrained network; traceable. See `init_state`."""
    image = jnp.zeros((1, *image_shape[1:]))
    return model.init(jax.random.key(seed), image, train=False)


def state_of(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    ema: EMA | None = None,
) -> TrainState:
    """The state at step 0 of a network with these variables; traceable."""
    params, statistics = variables["params"], variables.get("batch_stats", {})
    average = None if ema is None else ema.start(params, statistics)
    return begun(variables, optimizer.init(params), average)


def forward_image(
    model: nn.Module, variables: Mapping[str, Any], batch: Batch, key: Array
) -> tuple[Outputs, Any]:
    """The forward pass of a network that sees the image alone."""
    return model.apply(
        variables,
        batch["image"],
        train=True,
        rngs=streams("dropout", key),
        mutable=changing(variables),
    )


def streams(name: str, key: Array) -> dict[str, Array]:
    """Random streams for `model.apply`: the one of a name, and a key for all others.

    Flax gives a stream that is not named, such as "droppath", keys of the stream "params", each
    time and in each module another.
    """
    return {name: key, "params": jax.random.fold_in(key, 1)}


def changing(variables: Mapping[str, Any]) -> list[str]:
    """The collections that a network may change in training: all but its parameters."""
    return [name for name in variables if name != "params"]


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    seed: int,
    forward: Forward = forward_image,
    ema: EMA | None = None,
) -> TrainStep:
    """Makes the pure function from a state and a batch to the next state and metrics.

    Args:
      model: maps `image` `[B, H, W, C]` to a dict of outputs.
      loss: maps the outputs and the batch to one number, or to it and its parts.
      optimizer: the optimizer.
      schedule: its learning rate, to report it.
      seed: of all that is random in the network; folded with the step.
      forward: the network in training.
      ema: the moving average, where the state has one.

    Returns:
      The function. Its metrics are float32 scalars: `loss`, its parts if it has any,
      `gradient_norm` (before clipping) and `learning_rate`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def run(params: Any) -> tuple[Outputs, Any]:
            variables = {**state.variables, "params": gathered(params)}
            return forward(model, variables, batch, key)

        def loss_of(params: Any) -> tuple[Array, Any]:
            outputs, changed = run(params)
            value, parts = with_parts(loss(outputs, batch))
            return value, (parts, changed)

        grad = jax.value_and_grad(gathering(loss_of), has_aux=True)
        (value, (parts, changed)), gradients = grad(state.params)
        metrics = {
            "loss": value,
            **parts,
            "gradient_norm": global_norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        state = apply_gradients(
            state,
            gradients,
            changed,
            optimizer,
            ema,
            loss=value,
            rerun=lambda x: run(x)[1],
        )
        return state, metrics

    return train_step


def with_parts(loss: Array | tuple[Array, Metrics]) -> tuple[Array, Metrics]:
    """What a loss gives, as the number and its parts, of which it may have none."""
    return loss if isinstance(loss, tuple) else (loss, {})


def apply_gradients(
    state: TrainState,
    gradients: Any,
    changed: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    ema: EMA | None = None,
    loss: Array | None = None,
    rerun: Callable[[Any], Mapping[str, Any]] | None = None,
) -> TrainState:
    """The state after a step with these gradients: optimizer, collections, average; traceable.

    Args:
      state: the one before.
      gradients: of `state.params`.
      changed: collections that the forward pass has changed, by name.
      optimizer: the optimizer.
      ema: the moving average, where the state has one.
      loss: the number that they are the gradients of, for optimizers that ask for it.
      rerun: the collections that a forward pass with other parameters changes. Where it is
        given, a schedule-free optimizer has the running statistics of the parameters that
        are evaluated, for another forward pass a step, as its authors ask for.

    Returns:
      The state at the next step.
    """
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradients, state.opt_state, state.params, value=loss
    )
    kept = {name: changed.get(name, x) for name, x in state.collections.items()}
    new = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=changed.get("batch_stats", {}),
        opt_state=opt_state,
        collections=kept,
    )
    if rerun is not None and new.batch_stats and is_schedule_free(opt_state):
        statistics = rerun(new.optimized_params())["batch_stats"]
        new = dataclasses.replace(new, batch_stats=statistics)
    if ema is None:
        return new
    is_update = has_updated(state.opt_state, opt_state)
    average = ema.update(state.ema, new.optimized_params(), new.batch_stats, is_update)
    return dataclasses.replace(new, ema=average)
