"""Losses of semantic segmentation.

Each takes the outputs of a model, `logits` `[B, H, W, K]`, and a batch of `label`
`[B, H, W]` with `weight` `[B, H, W]`, and returns one float32 number. Pixels labelled
`IGNORE_LABEL` do not count, nor do those of weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp

from segjax.types import IGNORE_LABEL, Array

REDUCTIONS = ("mean", "sum")


def cross_entropy(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    class_weights: tuple[float, ...] | None = None,
    reduction: str = "mean",
) -> Array:
    """Softmax cross-entropy, `-sum_x w(x) log p_{l(x)}(x)`, over the pixels that count.

    U-Net (Ronneberger et al. 2015, arXiv 1505.04597, equation 1, where the minus sign is
    missing) sums over pixels; the mean makes the learning rate independent of the crop.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      class_weights: one factor a class, on top of the pixels' weights.
      reduction: "mean", divided by the number of pixels that count (not by the sum of
        their weights, so that weights keep their meaning), or "sum".

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if the reduction is unknown or `class_weights` has another length than K.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction is "mean" or "sum", got {reduction!r}')
    logits, label, counts = _unpack(outputs, batch)
    safe_label = jnp.where(counts, label, 0)
    log_p = jax.nn.log_softmax(logits)
    loss = -_select(log_p, safe_label)
    if class_weights is not None:
        if len(class_weights) != logits.shape[-1]:
            raise ValueError(
                f"class_weights has {len(class_weights)} entries for "
                f"{logits.shape[-1]} classes"
            )
        loss = loss * jnp.asarray(class_weights, jnp.float32)[safe_label]
    loss = jnp.where(counts, loss * batch["weight"], 0.0).sum()
    if reduction == "sum":
        return loss
    return loss / jnp.maximum(counts.sum(), 1)


def dice(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    smoothing: float = 1.0,
) -> Array:
    """Soft Dice loss, `1 - mean_k 2 |P_k T_k| / (|P_k| + |T_k|)`, over the whole batch.

    Milletari, Navab, Ahmadi, 3DV 2016, arXiv 1606.04797, section 3, with sums of
    probabilities instead of squares in the denominator, and a mean over classes.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      smoothing: added to numerator and denominator, in pixels; a class that is neither
        there nor predicted then costs nothing.

    Returns:
      The loss in [0, 1], a float32 scalar.
    """
    logits, label, counts = _unpack(outputs, batch)
    weight = jnp.where(counts, batch["weight"], 0.0)[..., None]
    probability = jax.nn.softmax(logits) * weight
    truth = jax.nn.one_hot(jnp.where(counts, label, 0), logits.shape[-1]) * weight
    overlap = (probability * (truth > 0)).sum((0, 1, 2))
    total = probability.sum((0, 1, 2)) + truth.sum((0, 1, 2))
    return 1 - ((2 * overlap + smoothing) / (total + smoothing)).mean()


def cross_entropy_and_dice(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    dice_weight: float = 1.0,
    class_weights: tuple[float, ...] | None = None,
) -> Array:
    """The sum of `cross_entropy` (mean) and `dice_weight` times `dice`.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      dice_weight: factor of the Dice loss.
      class_weights: factor of the cross-entropy of each class, K numbers.

    Returns:
      The loss, a float32 scalar.
    """
    entropy = cross_entropy(outputs, batch, class_weights=class_weights)
    return entropy + dice_weight * dice(outputs, batch)


def _select(values: Array, index: Array) -> Array:
    """Takes `values[..., index]`, without a gather: its gradient is a scatter."""
    classes = jnp.arange(values.shape[-1])[None, None, None]
    return jnp.where(classes == index[..., None], values, 0.0).sum(-1)


def _unpack(
    outputs: Mapping[str, Array], batch: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    """Returns float32 logits, labels, and which pixels count."""
    logits, label = outputs["logits"].astype(jnp.float32), batch["label"]
    chex.assert_rank(logits, 4)
    chex.assert_shape([label, batch["weight"]], logits.shape[:3])
    return logits, label, (label != IGNORE_LABEL) & (batch["weight"] > 0)
