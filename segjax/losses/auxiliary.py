"""Outputs that exist in training alone: auxiliary heads and side outputs, for any loss."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from segjax.types import Array

Loss = Callable[..., Array]

_ARGUMENTS = """
  aux_weight: factor of the same loss of `aux_logits`, where the outputs have them.
  side_weights: factors of the same loss of each of `side_logits`, where the outputs
    have them; None is 1 for each."""


def with_auxiliary(loss: Loss) -> Loss:
    """Adds to a loss of `logits` the same loss of a network's intermediate outputs.

    `loss(logits) + aux_weight loss(aux_logits) + sum_s side_weights[s] loss(side_logits[s])`:
    the auxiliary head of PSPNet (Zhao et al. 2017, arXiv 1612.01105, section 3.3, weight
    0.4) and deep supervision (Lee et al. 2015, arXiv 1409.5185; Xie, Tu 2015, arXiv
    1504.06375, weight 1). Networks have these outputs in training alone; without them
    the loss is that of the logits.

    Args:
      loss: maps `outputs` and `batch`, and arguments of its own, to a number.

    Returns:
      The loss with the arguments `aux_weight` and `side_weights` besides its own, in its
      signature and in its docstring, too. `aux_logits` are `[B, H, W, K]`,
      `side_logits` a tuple of such or an array `[S, B, H, W, K]`.

    Example:
      >>> double = with_auxiliary(lambda outputs, batch: 2 * outputs["logits"])
      >>> double({"logits": 1.0, "aux_logits": 10.0}, {}, aux_weight=0.5)
      12.0
    """

    @functools.wraps(loss)
    def supervised(
        outputs: Mapping[str, Any],
        batch: Mapping[str, Array],
        *,
        aux_weight: float = 0.4,
        side_weights: tuple[float, ...] | None = None,
        **arguments: Any,
    ) -> Array:
        _check(aux_weight, side_weights)
        of = lambda logits: loss({"logits": logits}, batch, **arguments)
        total = of(outputs["logits"])
        if "aux_logits" in outputs and aux_weight:
            total += aux_weight * of(outputs["aux_logits"])
        if "side_logits" in outputs:
            sides = outputs["side_logits"]
            weights = (1.0,) * len(sides) if side_weights is None else side_weights
            if len(weights) != len(sides):
                raise ValueError(
                    f"side_weights has {len(weights)} entries for {len(sides)} side "
                    "outputs"
                )
            for weight, side in zip(weights, sides, strict=True):
                total += weight * of(side)
        return total

    own = inspect.signature(loss)
    added = inspect.signature(supervised, follow_wrapped=False).parameters
    shown = [*own.parameters.values(), added["aux_weight"], added["side_weights"]]
    vars(supervised)["__signature__"] = own.replace(parameters=shown)
    explained, mark, rest = (inspect.getdoc(loss) or "").partition("\n\nReturns:")
    supervised.__doc__ = f"{explained}{_ARGUMENTS}{mark}{rest}"
    return supervised


def _check(aux_weight: float, side_weights: tuple[float, ...] | None) -> None:
    """Raises ValueError unless the weights are finite and not negative."""
    if not 0 <= aux_weight < math.inf:
        raise ValueError(
            f"aux_weight must be a finite number of at least 0, got {aux_weight}"
        )
    if side_weights is None:
        return
    if not isinstance(side_weights, tuple) or not all(
        0 <= weight < math.inf for weight in side_weights
    ):
        raise ValueError(
            "side_weights must be a tuple of finite numbers of at least 0, or None, got "
            f"{side_weights!r}"
        )
