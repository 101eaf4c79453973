"""Branches that keep XLA for CPUs from computing a value over and over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.forms import is_fast_on_cpu
from segjax.types import Array


def materialize(
    function: Callable[..., Any], *arguments: Any, condition: Array | None = None
) -> Any:
    """`function(*arguments)`, computed once and kept where XLA would not.

    XLA for CPUs fuses a value into every operation that reads it, and computes it there
    anew for each element that is read: of six gathers one after another the first is
    done 3^5 times. What goes into a branch of a condition and what comes out of it is
    kept, without the copy that a loop would cost.

    Args:
      function: of arrays.
      condition: whether the result matters; zeros come out otherwise. Branches of one
        condition are joined again, and results that nobody reads taken out of them.
        None: always, which a barrier hides from XLA for CPUs. Other backends, which
        would read the condition on the host, get no branch: they choose the values.
      *arguments: pytrees of arrays.

    Returns:
      What the function returns.
    """

    def zeros(*arguments: Any) -> Any:
        shapes = jax.eval_shape(function, *arguments)
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    if not is_fast_on_cpu():
        values = function(*arguments)
        if condition is None:
            return values
        return jax.tree.map(partial(jnp.where, condition), values, zeros(*arguments))
    if condition is None:
        condition = lax.optimization_barrier(jnp.array(True))
    return lax.cond(condition, function, zeros, *arguments)
