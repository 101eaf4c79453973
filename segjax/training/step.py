"""One step of training, as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from segjax.training.optim import global_norm
from segjax.training.state import TrainState
from segjax.types import Array, Outputs

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Loss = Callable[[Outputs, Batch], Array | tuple[Array, Metrics]]
"""One number to minimise, alone or with its parts by name."""

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
    variables: Mapping[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
    """The state at step 0 of a network with these variables; traceable."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def forward_image(
    model: nn.Module, variables: Mapping[str, Any], batch: Batch, key: Array
) -> tuple[Outputs, Any]:
    """The forward pass of a network that sees the image alone."""
    return model.apply(
        variables,
        batch["image"],
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    seed: int,
    forward: Forward = forward_image,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Makes the pure function from a state and a batch to the next state and metrics.

    Args:
      model: maps `image` `[B, H, W, C]` to a dict of outputs.
      loss: maps the outputs and the batch to one number, or to it and its parts.
      optimizer: the optimizer.
      schedule: its learning rate, to report it.
      seed: of dropout; folded with the step.
      forward: the network in training.

    Returns:
      The function. Its metrics are float32 scalars: `loss`, its parts if it has any,
      `gradient_norm` (before clipping) and `learning_rate`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params: Any) -> tuple[Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, updated = forward(model, variables, batch, key)
            value = loss(outputs, batch)
            value, parts = value if isinstance(value, tuple) else (value, {})
            return value, (parts, updated.get("batch_stats", {}))

        grad = jax.value_and_grad(loss_of, has_aux=True)
        (value, (parts, batch_stats)), gradients = grad(state.params)
        update = optax.with_extra_args_support(optimizer).update
        updates, opt_state = update(
            gradients, state.opt_state, state.params, value=value
        )
        metrics = {
            "loss": value,
            **parts,
            "gradient_norm": global_norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, metrics

    return train_step
