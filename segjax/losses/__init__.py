"""Outputs and labels to one number to minimise; `LOSSES` names them for the configs."""

from collections.abc import Callable

from segjax.losses.auxiliary import with_auxiliary
from segjax.losses.instance import mask_rcnn_loss
from segjax.losses.lovasz import lovasz_softmax
from segjax.losses.semantic import (
    cross_entropy,
    cross_entropy_and_dice,
    dice,
    focal,
    hard_cross_entropy,
    jaccard,
)
from segjax.types import Array

LOSSES: dict[str, Callable[..., Array]] = {
    "cross_entropy": with_auxiliary(cross_entropy),
    "hard_cross_entropy": with_auxiliary(hard_cross_entropy),
    "focal": with_auxiliary(focal),
    "dice": with_auxiliary(dice),
    "jaccard": with_auxiliary(jaccard),
    "lovasz_softmax": with_auxiliary(lovasz_softmax),
    "cross_entropy_and_dice": with_auxiliary(cross_entropy_and_dice),
}

INSTANCE_LOSSES: dict[str, Callable[..., tuple[Array, dict[str, Array]]]] = {
    "mask_rcnn": mask_rcnn_loss,
}
"""Losses of instances: the number to minimise, and its parts by name."""
