"""Kernels that are divided among devices, which an op does not see.

An op that is linear in a map and in a kernel asks here to be applied (`apply_kernel`). How it is,
where the kernel is divided, is a context that a run sets from its mesh
(`segjax.training.sharding.Devices.lowering`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from segjax.types import Array

Bilinear = Callable[[Array, Array], Array]
"""From a map `[B, ..., C]` and a kernel of four axes to a map `[B, ..., F]`, linear in each."""

Apply = Callable[[Bilinear, Array, Array, int], Array]
"""Applies such a function; the number is the kernel's axis of input channels."""

_apply: Any = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def divided_kernels(apply: Apply | None) -> Iterator[None]:
    """Traces programs in which kernels are divided.

    Args:
      apply: how functions of divided kernels are applied; None where they are whole.

    Yields:
      Nothing; the context ends where it is left.
    """
    with _apply(apply):
        yield


def apply_kernel(function: Bilinear, x: Array, kernel: Array, *, inputs: int) -> Array:
    """`function(x, kernel)`, wherever the parts of the kernel lie.

    Args:
      function: linear in each of its arguments.
      x: a map `[B, ..., C]`.
      kernel: `[kh, kw, C, F]`, or `[kh, kw, F, C]`.
      inputs: the axis of C, 2 or 3.

    Returns:
      A map `[B, ..., F]`.
    """
    apply: Apply | None = _apply.value
    return function(x, kernel) if apply is None else apply(function, x, kernel, inputs)
