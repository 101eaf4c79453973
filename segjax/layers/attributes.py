"""Checks of a module's attributes, for `__post_init__`: before anything is traced."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.types import Dtype, is_count


def check_counts(**values: object) -> None:
    """Checks that each value is an integer of at least 1.

    Args:
      **values: attributes by name; a tuple has to hold such numbers, at least one.

    Raises:
      ValueError: naming the attribute and what it was.

    Example:
      >>> check_counts(num_classes=21, rates=(6, 12, 18))
    """
    for name, value in values.items():
        several = isinstance(value, tuple)
        entries = value if isinstance(value, tuple) else (value,)
        if entries and all(map(is_count, entries)):
            continue
        allowed = "integers" if several else "an integer"
        verb = "holds" if several else "is"
        raise ValueError(f"{name} {verb} {allowed} of at least 1, got {value!r}")


def check_fractions(**values: float) -> None:
    """Checks that each value is at least 0 and less than 1.

    Raises:
      ValueError: naming the attribute and what it was.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is at least 0 and less than 1, got {value}")


def check_flags(**values: object) -> None:
    """Checks that each value is True or False.

    Raises:
      ValueError: naming the attribute and what it was.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is True or False, got {value!r}")


def check_side_remainder(side_remainder: int) -> None:
    """Checks the remainder of accepted sides, divided by an output stride.

    Raises:
      ValueError: if it is neither 0 nor 1.
    """
    if isinstance(side_remainder, bool) or side_remainder not in (0, 1):
        raise ValueError(f"side_remainder is 0 or 1, got {side_remainder!r}")


def check_dtypes(**values: Dtype) -> None:
    """Checks that each value is a dtype of real numbers.

    Raises:
      ValueError: naming the attribute and what it was.
    """
    for name, value in values.items():
        try:
            if jnp.issubdtype(jnp.dtype(value), jnp.floating):
                continue
        except TypeError:
            pass
        raise ValueError(
            f'{name} is a dtype of real numbers, such as "float32" or "bfloat16", got '
            f"{value!r}"
        )


def check_stage(name: str, value: str, backbone: nn.Module) -> None:
    """Checks that a backbone has a map of this name.

    Raises:
      ValueError: naming the attribute, what it was, and the maps that there are.
    """
    try:
        backbone.layers(value)
    except ValueError as error:
        raise ValueError(f"{name} names no map of the backbone: {error}") from error
