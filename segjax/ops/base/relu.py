"""The rectified linear unit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.ops.base.forms import is_on_accelerator
from segjax.types import Array


def relu(x: Array) -> Array:
    """`max(x, 0)`; its gradient at 0 is 0, as that of `jax.nn.relu`.

    On accelerators the gradient asks the result where it is positive. With `jax.nn.relu` a map
    that is pooled or handed on is kept twice for it, before and after: 1 GB of writing in a step
    of the paper's U-Net on a TPU v5e.

    Args:
      x: of any shape.

    Returns:
      The same shape and dtype.

    Example:
      >>> relu(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    return _from_result(x) if is_on_accelerator() else jax.nn.relu(x)


@jax.custom_jvp
def _from_result(x: Array) -> Array:
    return jnp.maximum(x, 0)


@_from_result.defjvp
def _from_result_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    y = _from_result(*primals)
    return y, jnp.where(y > 0, *tangents, 0)
