"""Averaging a prediction over samples of a network that drops activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segjax.predict.dihedral import Apply
from segjax.predict.heads import SOFTMAX, Head
from segjax.types import Array


def over_samples(
    apply: Callable[[Any, Array, Array], Array],
    samples: int,
    seed: int,
    head: Head = SOFTMAX,
) -> Apply:
    """Averages the class probabilities over several keys of dropout.

    This is Monte Carlo dropout as in Bayesian SegNet (Kendall, Badrinarayanan &
    Cipolla 2015, arXiv 1511.02680, section 3). The keys are the same for every image
    and tile, so a prediction can be repeated.

    Args:
      apply: the network: variables, images `[B, H, W, C]` and a key, to logits.
      samples: how many.
      seed: of the keys.
      head: how its logits are read.

    Returns:
      A function of variables and images that returns the logits of the mean, float32.
    """

    def averaged(variables: Any, image: Array) -> Array:
        def add(total: Array, key: Array) -> tuple[Array, None]:
            return total + head.probabilities(apply(variables, image, key)), None

        keys = jax.random.split(jax.random.key(seed), samples)
        logits = jax.eval_shape(apply, variables, image, keys[0])
        total, _ = jax.lax.scan(add, jnp.zeros(logits.shape), keys)
        return head.logits(total / samples)

    return averaged
