"""An exponential moving average of a network, which is evaluated in its place."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from segjax.types import Array


@dataclasses.dataclass(frozen=True)
class EMA:
    """The optional group `ema` of a config: a moving average of parameters and statistics.

    After each update of the optimizer the average becomes `decay * average + (1 - decay) * new`
    (Polyak, Juditsky 1992; Tarvainen, Valpola 2017, arXiv 1703.01780). Statistics of batch
    normalisation are averaged, too, as torchvision's training and timm do: those of the newest
    parameters would not fit activations of older ones. Other collections are taken as they are.
    The average is kept in float32 at least, since bfloat16 would round its small steps away.

    Attributes:
      decay: the fraction of the average that an update keeps.
      warmup: whether update n keeps `min(decay, n / (n + 9))` instead, so that the random initial
        weights are soon forgotten, as in TensorFlow's ExponentialMovingAverage.
    """

    decay: float = 0.999
    warmup: bool = True

    def __post_init__(self) -> None:
        """Checks the values."""
        is_number = isinstance(self.decay, int | float) and not isinstance(
            self.decay, bool
        )
        if not is_number or not 0 <= self.decay < 1:
            raise ValueError(
                f"decay must be a number, at least 0 and less than 1, got {self.decay!r}"
            )
        if not isinstance(self.warmup, bool):
            raise ValueError(f"warmup must be True or False, got {self.warmup!r}")

    def start(self, params: Any, batch_stats: Any) -> dict[str, Any]:
        """The average before the first update: the network itself; traceable.

        Args:
          params: the parameters.
          batch_stats: the running statistics.

        Returns:
          `params` and `batch_stats` of the average, and `count`, the updates so far.
        """
        kept = lambda x: jnp.array(x, jnp.promote_types(x.dtype, jnp.float32))
        averaged = {"params": params, "batch_stats": batch_stats}
        return {**jax.tree.map(kept, averaged), "count": jnp.zeros((), jnp.int32)}

    def update(
        self, average: Any, params: Any, batch_stats: Any, is_update: Array | bool
    ) -> dict[str, Any]:
        """The average after a step; traceable.

        Args:
          average: the one before.
          params: the parameters after the step.
          batch_stats: the running statistics after it.
          is_update: whether the optimizer moved the parameters, which it does not in each step
            where it accumulates gradients; without it the average stays.

        Returns:
          Its next value.

        Example:
          >>> ema, ones = EMA(decay=0.75, warmup=False), jnp.ones(1)
          >>> average = ema.start({"bias": ones}, {})
          >>> ema.update(average, {"bias": 5 * ones}, {}, True)["params"]["bias"].tolist()
          [2.0]
        """
        count = average["count"] + jnp.asarray(is_update, jnp.int32)
        decay = jnp.float32(self.decay)
        if self.warmup:
            decay = jnp.minimum(decay, count / (count + 9.0))
        step_size = jnp.where(is_update, 1 - decay, 0.0)
        before = {key: average[key] for key in ("params", "batch_stats")}
        new = {"params": params, "batch_stats": batch_stats}
        return {**optax.incremental_update(new, before, step_size), "count": count}


def has_updated(before: Any, after: Any) -> Array | bool:
    """Whether a step of an optimizer made an update, or only accumulated a gradient.

    Args:
      before: the optimizer's state before the step.
      after: that after it.

    Returns:
      True where nothing accumulates (`optax.MultiSteps`).
    """
    pairs = zip(_counts(before), _counts(after), strict=True)
    changed = [new != old for old, new in pairs]
    return functools.reduce(operator.or_, changed) if changed else True


def _counts(opt_state: Any) -> list[Array]:
    """How many updates each accumulation has made."""
    is_accumulation = lambda node: isinstance(node, optax.MultiStepsState)
    leaves = jax.tree.leaves(opt_state, is_leaf=is_accumulation)
    return [leaf.gradient_step for leaf in leaves if is_accumulation(leaf)]
