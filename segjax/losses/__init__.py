"""Outputs and labels to one number to minimise; `LOSSES` names them for the configs."""

from segjax.losses.semantic import (
    cross_entropy,
    cross_entropy_and_dice,
    dice,
)

LOSSES = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy_and_dice": cross_entropy_and_dice,
}
