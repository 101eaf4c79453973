"""Parameters that are divided among devices, and gathered where a network takes them.

Which they are is a context (`segjax.training.sharding.Devices.lowering`), as a step of training knows
no devices. Left to itself the compiler would now and then gather maps in place of parameters. The
largest kernels are not gathered, but passed on part by part (`segjax.training.ring`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from segjax.ops.base.kernels import divided_kernels
from segjax.training.ring import Ring

_ring: Any = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def divided_parameters(ring: Ring | None) -> Iterator[None]:
    """Traces programs in whose state parameters are divided.

    Args:
      ring: the devices among which they are; None where none are divided.

    Yields:
      Nothing; the context ends where it is left.
    """
    with _ring(ring), divided_kernels(ring):
        yield


def gathered(params: Any) -> Any:
    """Parameters as a network takes them, whole on each device but for the largest; traceable."""
    ring: Ring | None = _ring.value
    if ring is None:
        return params
    whole = NamedSharding(ring.mesh, PartitionSpec())

    def gather(x: Any) -> Any:
        is_passed_on = ring.axis(x.shape) is not None
        return x if is_passed_on else jax.lax.with_sharding_constraint(x, whole)

    return jax.tree.map(gather, params)


def gathering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has `gathered` parameters gathered a second time for the gradient of a function.

    Otherwise each device would keep them whole from the forward pass on.

    Args:
      function: of parameters, which it passes through `gathered`.

    Returns:
      A function of the same numbers; where no parameters are divided, the one that was given.
    """
    if _ring.value is None:
        return function
    # A name given to what was gathered would be of a copy, and what it was made of be kept.
    keeps = lambda primitive, *_, **__: primitive.name != "sharding_constraint"
    return jax.checkpoint(function, policy=keeps)
