"""From the logits of a network to probabilities and labels: softmax, or a sigmoid for each.

A network with one logit, of class 1 against class 0, is brought to two logits, 0 and its own,
whose softmax is its sigmoid. So everything that knows two classes knows it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.types import Array, class_bits


class Head(NamedTuple):
    """How logits `[..., K]` are read.

    Attributes:
      probabilities: of the classes, float32 `[..., K]`.
      logits: the way back, all finite.
      labels: integers `[...]`.
    """

    probabilities: Callable[[Array], Array]
    logits: Callable[[Array], Array]
    labels: Callable[[Array], Array]

    def outputs(self, logits: Array, names: Sequence[str]) -> dict[str, Array]:
        """Makes each output that is asked for, keys of `OUTPUTS`; traceable.

        Example:
          >>> logits = jnp.array([[2.0, -1.0, 3.0]])
          >>> SOFTMAX.outputs(logits, ["labels"])["labels"].tolist()
          [2]
          >>> SIGMOID.outputs(logits, ["labels"])["labels"].tolist()  # 1 + 4
          [5]
        """
        make = {
            "logits": lambda x: x.astype(jnp.float32),
            "probabilities": self.probabilities,
            "labels": self.labels,
        }
        return {name: make[name](logits) for name in names}


OUTPUTS = ("logits", "probabilities", "labels")
"""The outputs that can be asked for, each made from logits `[B, H, W, K]` on the device."""


def softmax(logits: Array) -> Array:
    """Probabilities of classes of which a pixel has one."""
    return jax.nn.softmax(logits.astype(jnp.float32))


def log_probabilities(probability: Array) -> Array:
    """Logits `[..., K]` of which the softmax is the given probability, all finite."""
    return jnp.log(jnp.maximum(probability, jnp.finfo(jnp.float32).tiny))


def likeliest(logits: Array) -> Array:
    """The class of the largest logit, uint8."""
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def sigmoid(logits: Array) -> Array:
    """Probabilities of classes that overlap."""
    return jax.nn.sigmoid(logits.astype(jnp.float32))


def log_odds(probability: Array) -> Array:
    """Logits of which the sigmoid is the given probability, all finite."""
    least = jnp.finfo(jnp.float32).tiny
    return jnp.log(jnp.maximum(probability, least)) - jnp.log(
        jnp.maximum(1 - probability, least)
    )


def all_likely(logits: Array) -> Array:
    """The sum of the values of all classes above 1/2 (`segjax.types.class_bits`), uint8."""
    bits = jnp.array(class_bits(logits.shape[-1]), jnp.uint8)
    bits = bits.reshape((1,) * (logits.ndim - 1) + (-1,))
    return jnp.where(logits > 0, bits, jnp.uint8(0)).sum(-1, dtype=jnp.uint8)


SOFTMAX = Head(softmax, log_probabilities, likeliest)
"""A pixel is of one class."""

SIGMOID = Head(sigmoid, log_odds, all_likely)
"""A pixel is of any number of classes."""


def against_zero(logits: Array) -> Array:
    """Two logits `[..., 2]` of which the softmax is the sigmoid of one, `[..., 1]`.

    Example:
      >>> [round(float(p), 3) for p in jax.nn.softmax(against_zero(jnp.array([2.0])))]
      [0.119, 0.881]
    """
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
