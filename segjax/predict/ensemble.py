"""Averaging a prediction over several networks of one architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.predict.dihedral import Apply
from segjax.predict.heads import SOFTMAX, Head
from segjax.types import Array


class Members(NamedTuple):
    """Variables of several networks.

    Attributes:
      stacked: collections of the model; each array has the networks along its first axis.
    """

    stacked: Any


def stack_members(variables: Sequence[Any]) -> Members:
    """Puts the variables of networks of one architecture together.

    Example:
      >>> members = stack_members([{"bias": jnp.zeros(3)}, {"bias": jnp.ones(3)}])
      >>> members.stacked["bias"].shape
      (2, 3)
    """
    return Members(jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables))


def over_members(apply: Apply, head: Head = SOFTMAX) -> Apply:
    """Averages the class probabilities over the networks, where there are several.

    Args:
      apply: the network.
      head: how its logits are read.

    Returns:
      A function like `apply`. Given `Members`, it returns the logits of the mean, float32;
      given the variables of one network, what `apply` does.
    """

    def averaged(variables: Any, image: Array) -> Array:
        if not isinstance(variables, Members):
            return apply(variables, image)

        def add(total: Array, member: Any) -> tuple[Array, None]:
            return total + head.probabilities(apply(member, image)), None

        count = len(jax.tree.leaves(variables.stacked)[0])
        first = jax.tree.map(lambda leaf: leaf[0], variables.stacked)
        shape = jax.eval_shape(apply, first, image).shape
        total, _ = jax.lax.scan(add, jnp.zeros(shape), variables.stacked)
        return head.logits(total / count)

    return averaged
