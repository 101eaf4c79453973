"""Checking the numbers that a configuration gives to an augmentation."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

ANGLES = (-3600.0, 3600.0)
"""Degrees: ten turns either way."""

FACTORS = (0.01, 100.0)
"""Of magnification."""


def number(name: str, value: Any, low: float, high: float) -> float:
    """Returns a finite number in `[low, high]`, as float.

    Raises:
      ValueError: when it is anything else; names the argument.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low} to {high}, got {value!r}")
    return float(value)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Returns an integer in `[low, high]`.

    Raises:
      ValueError: when it is anything else; names the argument.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ValueError(
            f"{name} must be an integer from {low} to {high}, got {value!r}"
        )
    return int(value)


def interval(name: str, values: Any, low: float, high: float) -> tuple[float, float]:
    """Returns two numbers in `[low, high]`, the smaller one first.

    Raises:
      ValueError: when they are anything else; names the argument.
    """
    pair = isinstance(values, Sequence) and not isinstance(values, str)
    if not pair or len(values) != 2:
        raise ValueError(f"{name} must be (low, high), got {values!r}")
    first, second = (number(name, value, low, high) for value in values)
    if first > second:
        raise ValueError(f"{name} must be (low, high), got {values!r}")
    return first, second


def several(name: str, values: Any, low: float, high: float) -> tuple[float, ...]:
    """Returns numbers in `[low, high]`, none or more.

    Raises:
      ValueError: when they are anything else; names the argument.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name} must be a sequence of numbers, got {values!r}")
    return tuple(number(name, value, low, high) for value in values)
