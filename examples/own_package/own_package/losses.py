"""A loss: a function of the network's outputs and the batch that gives one number."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def brier(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    *,
    factor: float = 1.0,
) -> jax.Array:
    """The squared error of probabilities (Brier 1950), the mean over pixels that count.

    Args:
      outputs: `logits` `[B, H, W, K]`, and whatever else the network gives.
      batch: `label` `[B, H, W]`, 255 where a pixel does not count, and `weight`.
      factor: of the loss.

    Returns:
      A scalar, float32.
    """
    probabilities = jax.nn.softmax(outputs["logits"])
    wanted = jax.nn.one_hot(batch["label"], probabilities.shape[-1])
    error = jnp.square(probabilities - wanted).sum(-1)
    weight = jnp.where(batch["label"] == 255, 0.0, batch["weight"])
    return factor * (weight * error).sum() / jnp.maximum(weight.sum(), 1.0)
