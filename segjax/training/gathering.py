"""Parameters that are divided among devices, and gathered where a network takes them.

Which they are is a context (`segjax.training.sharding.Devices.lowering`), as a step of training knows
no devices. Left to itself the compiler would now and then gather maps in place of parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

_whole: Any = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def divided_parameters(whole: jax.sharding.Sharding | None) -> Iterator[None]:
    """Traces programs in whose state parameters are divided.

    Args:
      whole: the sharding of what each device has the whole of; None where none are divided.

    Yields:
      Nothing; the context ends where it is left.
    """
    with _whole(whole):
        yield


def gathered(params: Any) -> Any:
    """Parameters as a network takes them, whole on each device; traceable."""
    if _whole.value is None:
        return params
    whole = partial(jax.lax.with_sharding_constraint, shardings=_whole.value)
    return jax.tree.map(whole, params)


def gathering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has `gathered` parameters gathered a second time for the gradient of a function.

    Otherwise each device would keep them whole from the forward pass on.

    Args:
      function: of parameters, which it passes through `gathered`.

    Returns:
      A function of the same numbers; where no parameters are divided, the one that was given.
    """
    if _whole.value is None:
        return function
    # A name given to what was gathered would be of a copy, and what it was made of be kept.
    keeps = lambda primitive, *_, **__: primitive.name != "sharding_constraint"
    return jax.checkpoint(function, policy=keeps)
