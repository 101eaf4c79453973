"""Arguments that all synthetic data sets have: how many scenes of each split, and a seed."""

from __future__ import annotations

from segjax.errors import UserError, shown
from segjax.types import is_integer

SPLITS = ("train", "validation", "test")


def check_integer(
    key: str, value: object, lowest: int, highest: int | None = None
) -> None:
    """Raises UserError where a value of `config.data` is not an integer in a range."""
    if is_integer(value) and lowest <= value <= (highest or value):
        return
    allowed = (
        f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
    )
    raise UserError(
        f"config.data.{key} is {shown(value)}; it must be an integer {allowed}."
    )
