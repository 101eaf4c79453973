"""How padding and groups are written, and checks that both convolutions share."""

from __future__ import annotations

from segjax.ops.base.arguments import pair
from segjax.types import Array

Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def read_padding(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Reads the three ways to write padding as `((top, bottom), (left, right))`."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    sides = pair("padding", rows, 0), pair("padding", columns, 0)
    return sides


def check_ranks(x: Array, kernel: Array) -> None:
    """Refuses what has not four axes."""
    for name, array in (("x", x), ("kernel", kernel)):
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 axes, got shape {array.shape}.")


def check_groups(groups: int, outputs: int) -> None:
    """Refuses groups that do not divide the channels."""
    if groups < 1 or outputs % groups:
        raise ValueError(
            f"groups={groups} must divide the kernel's last axis {outputs}."
        )
