"""Outputs and labels to one number to minimise; `LOSSES` names them for the configs."""

from collections.abc import Callable

from segjax.losses.semantic import (
    cross_entropy,
    cross_entropy_and_dice,
    dice,
)
from segjax.types import Array

LOSSES: dict[str, Callable[..., Array]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy_and_dice": cross_entropy_and_dice,
}
