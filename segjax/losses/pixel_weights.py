"""Parts that losses of pixels share: which count, the true class's score, class weights."""

from __future__ import annotations

from collections.abc import Mapping

import chex
import jax.numpy as jnp

from segjax.types import IGNORE_LABEL, Array

REDUCTIONS = ("mean", "sum")


def unpack(
    outputs: Mapping[str, Array], batch: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    """Returns float32 logits, labels, and which pixels count.

    Labels are 0 where pixels do not count, so that they may be used as an index.
    """
    logits, label = outputs["logits"].astype(jnp.float32), batch["label"]
    chex.assert_rank(logits, 4)
    chex.assert_shape([label, batch["weight"]], logits.shape[:3])
    counts = (label != IGNORE_LABEL) & (batch["weight"] > 0)
    return logits, jnp.where(counts, label, 0), counts


def select(values: Array, index: Array) -> Array:
    """Takes `values[..., index]`, without a gather: its gradient is a scatter."""
    classes = jnp.arange(values.shape[-1])[None, None, None]
    return jnp.where(classes == index[..., None], values, 0.0).sum(-1)


def class_factors(
    class_weights: tuple[float, ...] | None, label: Array, num_classes: int
) -> Array | float:
    """The factor of each pixel by its true class; 1 without class weights.

    Raises:
      ValueError: if there is not one number for each class.
    """
    if class_weights is None:
        return 1.0
    if len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights has {len(class_weights)} entries for {num_classes} classes"
        )
    return jnp.asarray(class_weights, jnp.float32)[label]


def reduce_pixels(loss: Array, counts: Array, reduction: str) -> Array:
    """Sums over the pixels that count; for "mean" divides by their number.

    Raises:
      ValueError: if the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction is "mean" or "sum", got {reduction!r}')
    total = jnp.where(counts, loss, 0.0).sum()
    return total if reduction == "sum" else total / jnp.maximum(counts.sum(), 1)


def check_smoothing(label_smoothing: float) -> None:
    """Checks that a part of the truth is left; a ValueError if not."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
