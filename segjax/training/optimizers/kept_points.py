"""Optimizers of Optax whose steps lead to a point that they keep, so that none may be changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from segjax.errors import UserError
from segjax.training.optimizers.lr_multipliers import Multipliers

AROUND_ANOTHER = ("schedule_free", "mechanize", "sam")
"""Functions that have another optimizer within, whose steps may be changed instead."""

UNSCALABLE = {
    "schedule_free_adamw": "schedule_free around adamw with b1=0.0",
    "schedule_free_sgd": "schedule_free around sgd with momentum=0.0",
    "cocob": "another one",
    "madgrad": "another one",
}
"""Functions that have none, and what to take instead."""

ADVERSARIAL = "adv_optimizer"
"""The argument of SAM whose steps lead away from the parameters that it improves."""


def check_steps(
    function: Callable[..., Any], name: Any, keys: Collection[str], where: str
) -> None:
    """Checks that nothing changes the steps of an optimizer that keeps where they lead.

    Args:
      function: makes the optimizer.
      name: its name in the config.
      keys: those that are given, of keys that change its steps.
      where: the place of its group.

    Raises:
      UserError: naming the first of them, and what to do.
    """
    kept = name_in_optax(function)
    if not keys or not (kept in AROUND_ANOTHER or kept in UNSCALABLE):
        return
    if kept in AROUND_ANOTHER:
        remedy = "put it into the group of the optimizer within"
    else:
        remedy = f"leave it out, or take {UNSCALABLE[kept]}"
    raise UserError(
        f"{where}.{next(iter(keys))} cannot change the steps of {name}, which lead to a "
        f"point that it keeps: {remedy}."
    )


def frozen_within(
    function: Callable[..., Any], inner: Mapping[str, Multipliers]
) -> Multipliers:
    """What the optimizers within freeze, so that the one around them leaves it alone, too.

    It would be moved by what is rounded, or by SAM to where the loss is worse.

    Args:
      function: makes the optimizer around them.
      inner: the multipliers of each that is an argument of it.

    Returns:
      Multipliers of 0.
    """
    if name_in_optax(function) not in AROUND_ANOTHER:
        return ()
    return tuple(
        (pattern, 0.0)
        for key, multipliers in inner.items()
        for pattern, factor in multipliers
        if factor == 0 and key != ADVERSARIAL
    )


def name_in_optax(function: Callable[..., Any]) -> str:
    """The name of a function of Optax; empty for one from elsewhere.

    Example:
      >>> import optax
      >>> name_in_optax(optax.lion), name_in_optax(print)
      ('lion', '')
    """
    from_optax = str(getattr(function, "__module__", "")).startswith("optax.")
    return function.__name__ if from_optax else ""
