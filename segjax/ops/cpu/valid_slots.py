"""Functions of slots of which some are empty: on a CPU, work for those that are not.

Shapes are static, so that an image has as many slots for objects as it may ever need. An
accelerator does them all at once. A CPU would spend most of its time on empty ones.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.forms import is_fast_on_cpu
from segjax.types import Array

ROWS = 8
"""Slots that a CPU does together: enough for a convolution to be fast, and so few that
what a gradient unfolds of them stays in cache and the last group is hardly empty."""


def on_valid_slots(
    function: Callable[..., Array], valid: Array, *slots: Array
) -> Array:
    """Applies a function to slots; of empty ones the result is 0.

    On a CPU the valid slots of all images are put side by side, as if they were those
    of one image, and done in groups; groups that are empty are left out. Where a batch
    lies on several CPU devices, each does the groups of all of them.

    Args:
      function: of slots `[B, r, ...]`, for any B and r, each slot by itself;
        differentiable.
      valid: whether there is something in a slot, bool `[B, R]`.
      *slots: what the function takes, each `[B, R, ...]`.

    Returns:
      What the function gives, `[B, R, ...]`.

    Raises:
      ValueError: if `valid` does not belong to the slots.

    Example:
      >>> x, valid = jnp.ones((1, 3)), jnp.array([[True, False, True]])
      >>> on_valid_slots(lambda x: x + 1, valid, x).tolist()
      [[2.0, 0.0, 2.0]]
    """
    for x in slots:
        if valid.shape != x.shape[:2]:
            raise ValueError(
                f"valid has the shape {list(valid.shape)} and slots have "
                f"{list(x.shape)}; allowed are [B, R] and [B, R, ...]"
            )
    in_groups = is_fast_on_cpu()
    y = _in_groups(function, valid, slots) if in_groups else function(*slots)
    return jnp.where(jnp.expand_dims(valid, tuple(range(2, y.ndim))), y, 0)


def _in_groups(
    function: Callable[..., Array], valid: Array, slots: tuple[Array, ...]
) -> Array:
    total = valid.size
    size = min(total, ROWS)
    count = -(-total // size)
    order = jnp.argsort(~valid.ravel(), stable=True)

    def grouped(x: Array) -> Array:
        rows = _rows(x.reshape(total, *x.shape[2:]), order)
        rest = ((0, count * size - total), *[(0, 0)] * (rows.ndim - 1))
        return jnp.pad(rows, rest).reshape(count, 1, size, *rows.shape[1:])

    groups = tuple(map(grouped, slots))
    result = jax.eval_shape(function, *(x[0] for x in groups))

    def of_group(group: tuple[Array, tuple[Array, ...]]) -> Array:
        some, rows = group
        nothing = lambda *_: jnp.zeros(result.shape, result.dtype)
        return lax.cond(some, function, nothing, *rows)

    y = lax.map(of_group, (size * jnp.arange(count) < valid.sum(), groups))
    y = y.reshape(count * size, *y.shape[3:])
    return _rows(y, jnp.argsort(order)).reshape(*valid.shape, *y.shape[1:])


def _rows(x: Array, order: Array) -> Array:
    """Rows of `x` in another order, each at most once."""
    return x.at[order].get(mode="promise_in_bounds", unique_indices=True)
