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
from segjax.losses.sigmoid import (
    binary_cross_entropy,
    binary_cross_entropy_and_dice,
    sigmoid_dice,
    sigmoid_focal,
)
from segjax.types import Array

SIGMOID_LOSSES: dict[str, Callable[..., Array]] = {
    "binary_cross_entropy": with_auxiliary(binary_cross_entropy),
    "sigmoid_focal": with_auxiliary(sigmoid_focal),
    "sigmoid_dice": with_auxiliary(sigmoid_dice),
    "binary_cross_entropy_and_dice": with_auxiliary(binary_cross_entropy_and_dice),
}
"""Losses of a sigmoid for each class, for `config.head` "sigmoid"."""

LOSSES: dict[str, Callable[..., Array]] = {
    "cross_entropy": with_auxiliary(cross_entropy),
    "hard_cross_entropy": with_auxiliary(hard_cross_entropy),
    "focal": with_auxiliary(focal),
    "dice": with_auxiliary(dice),
    "jaccard": with_auxiliary(jaccard),
    "lovasz_softmax": with_auxiliary(lovasz_softmax),
    "cross_entropy_and_dice": with_auxiliary(cross_entropy_and_dice),
    **SIGMOID_LOSSES,
}

INSTANCE_LOSSES: dict[str, Callable[..., tuple[Array, dict[str, Array]]]] = {
    "mask_rcnn": mask_rcnn_loss,
}
"""Losses of instances: the number to minimise, and its parts by name."""
