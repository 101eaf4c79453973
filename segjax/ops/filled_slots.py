"""Functions of slots of which some are empty: on a CPU, work for those that are not.

Shapes are static, so that an image has as many slots for objects as it may ever need. An
accelerator does them all at once. A CPU would spend most of its time on empty ones.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

ROWS = 32
"""Slots of all images that a CPU does together: enough for a convolution to be quick."""


def on_filled_slots(
    function: Callable[[Array], Array], x: Array, filled: Array
) -> Array:
    """Applies a function to slots; of empty ones the result is 0.

    On a CPU the slots are done in groups, and a group that is empty in every image is
    left out, so that the filled ones belong to the front. Gradients compute the function
    again instead of keeping what it computed on its way.

    Args:
      function: of slots `[B, r, ...]`, for any r, each by itself; differentiable.
      x: `[B, R, ...]`.
      filled: whether there is something in a slot, bool `[B, R]`.

    Returns:
      What the function gives, `[B, R, ...]`.

    Raises:
      ValueError: if `filled` does not belong to `x`.

    Example:
      >>> x, filled = jnp.ones((1, 3)), jnp.array([[True, True, False]])
      >>> on_filled_slots(lambda x: x + 1, x, filled).tolist()
      [[2.0, 2.0, 0.0]]
    """
    if filled.shape != x.shape[:2]:
        raise ValueError(
            f"filled has the shape {list(filled.shape)} and x {list(x.shape)}; allowed "
            "are [B, R] and [B, R, ...]"
        )
    in_groups = jax.default_backend() == "cpu"
    y = _in_groups(function, x, filled) if in_groups else function(x)
    return jnp.where(jnp.expand_dims(filled, tuple(range(2, y.ndim))), y, 0)


def _in_groups(function: Callable[[Array], Array], x: Array, filled: Array) -> Array:
    images, slots = filled.shape
    size = min(slots, -(-ROWS // images))
    count = -(-slots // size)
    grouped = lambda a: jnp.moveaxis(
        jnp.pad(
            a, ((0, 0), (0, count * size - slots), *[(0, 0)] * (a.ndim - 2))
        ).reshape(images, count, size, *a.shape[2:]),
        1,
        0,
    )
    groups = grouped(x)
    result = jax.eval_shape(function, groups[0])
    of_nothing = lambda _: jnp.zeros(result.shape, result.dtype)

    def of_group(group: tuple[Array, Array]) -> Array:
        some, rows = group
        return lax.cond(some, jax.checkpoint(function), of_nothing, rows)

    y = lax.map(of_group, (grouped(filled).any((1, 2)), groups))
    return jnp.moveaxis(y, 0, 1).reshape(images, -1, *y.shape[3:])[:, :slots]
