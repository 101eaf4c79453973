"""Numbers and ids as annotation files hold them: typed by people, other tools and pandas."""

from __future__ import annotations

import math
from array import array
from typing import Any

_EXACT = 1 << 53
"""Below it each integer is a float of its own."""

_DIGITS = 18
"""The most digits of an integer that is written as text; as many fit int64."""

_FALSE, _TRUE = (array("d", [value]).tobytes() for value in (False, True))


def integer(value: Any) -> int | None:
    """The integer that a value is beyond doubt, None where it is not.

    Example:
      >>> integer(3), integer(3.0), integer(3.5), integer("3"), integer(True)
      (3, 3, None, None, None)
    """
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return None


def identity(value: Any) -> int | str | None:
    """The key that ids are compared by: numbers as integers, also as text, and other text.

    Example:
      >>> identity(3), identity(3.0), identity("3"), identity("scan_a"), identity(None)
      (3, 3, 3, 'scan_a', None)
    """
    if type(value) is not str:
        return integer(value)
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS:
        return int(value)
    return value or None


def numbers(values: Any, limit: float) -> array[float] | None:
    """The numbers of a list that holds nothing else, all between `-limit` and `limit`.

    Millions of lists are checked, so each look at one is a single call.

    Args:
      values: what a file holds, maybe a list.
      limit: of their size.

    Returns:
      Them as floats of 64 bits; None where a value is another one.

    Example:
      >>> numbers([1, 2.5], 9), numbers([1, float("nan")], 9), numbers([1, "2"], 9)
      (array('d', [1.0, 2.5]), None, None)
    """
    if type(values) is not list:
        return None
    try:
        length = math.hypot(*values)  # NaN where one of them is
        found = array("d", values)
    except (TypeError, OverflowError):
        return None
    if not length <= limit and not (
        length == length and -limit <= min(values) and max(values) <= limit
    ):
        return None
    # What is left are True and False, which are 1 and 0 now.
    raw = found.tobytes()
    if (_TRUE in raw or _FALSE in raw) and bool in set(map(type, values)):
        return None
    return found
