"""Losses of networks with a sigmoid for each class: one logit, or classes that overlap.

Each takes the outputs of a model, `logits` `[B, H, W, K]`, and a batch of `label`
`[B, H, W]` with `weight` `[B, H, W]`, and returns one float32 number. With K = 1 the labels
are 0 and 1; otherwise a pixel holds the sum of the values of its classes
(`segjax.types.class_bits`). Pixels labelled `IGNORE_LABEL` do not count, nor do those of
weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from segjax.losses.pixel_weights import check_smoothing, reduce_pixels, unpack
from segjax.types import Array, class_bits

_LEAST_MISS = 1e-7
"""Below it `1 - p` is rounding; its powers below 1 have no finite slope at 0."""

PosWeight = float | tuple[float, ...] | None


def binary_cross_entropy(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    pos_weight: PosWeight = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """Sigmoid cross-entropy, `-w(x) (f t log p + (1 - t) log(1 - p))`, f being `pos_weight`.

    The sum over pixels and classes is divided by the number of pixels that count and by K.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      pos_weight: factor of the pixels of a class, one number or K; above 1 finds more of
        what is rare. None is 1.
      label_smoothing: the truth t becomes `(1 - label_smoothing) t + label_smoothing / 2`,
        in [0, 1): Szegedy et al. 2016, arXiv 1512.00567, section 7, with two classes.
      reduction: "mean" or "sum".

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if the reduction is unknown, `pos_weight` has another length than K or is
        not above 0, or `label_smoothing` is out of its range.
    """
    check_smoothing(label_smoothing)
    logits, truth, counts = _unpack(outputs, batch)
    truth = (1 - label_smoothing) * truth + label_smoothing / 2
    factors = _positive(pos_weight, logits.shape[-1])
    loss = -(
        factors * truth * jax.nn.log_sigmoid(logits)
        + (1 - truth) * jax.nn.log_sigmoid(-logits)
    )
    return reduce_pixels(loss.mean(-1) * batch["weight"], counts, reduction)


def sigmoid_focal(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    reduction: str = "mean",
) -> Array:
    """Focal loss of sigmoids, `-a (1 - p)^gamma log p` with p of what is true.

    Lin, Goyal, Girshick, He, Dollar, ICCV 2017, arXiv 1708.02002, equation 5; a is `alpha`
    where the pixel is of the class and `1 - alpha` where it is not.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      gamma: at least 0; 0 is the cross-entropy.
      alpha: in [0, 1]; None weighs both alike, by 1.
      reduction: "mean", over the pixels that count and over classes, or "sum".

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if an argument is out of its range.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be a finite number of at least 0, got {gamma}")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], or None, got {alpha}")
    logits, truth, counts = _unpack(outputs, batch)
    log_p = jax.nn.log_sigmoid(jnp.where(truth > 0, logits, -logits))
    loss = -log_p
    if gamma:
        loss *= jnp.maximum(-jnp.expm1(log_p), _LEAST_MISS) ** gamma
    if alpha is not None:
        loss *= jnp.where(truth > 0, alpha, 1 - alpha)
    return reduce_pixels(loss.mean(-1) * batch["weight"], counts, reduction)


def sigmoid_dice(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    smoothing: float = 1.0,
) -> Array:
    """Soft Dice loss of sigmoids, `1 - mean_k 2 |P_k T_k| / (|P_k| + |T_k|)`.

    As `segjax.losses.dice`, over the whole batch, but for the background, which has no
    logit.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      smoothing: added to numerator and denominator, in pixels; a class that is neither
        present nor predicted then costs nothing.

    Returns:
      The loss in [0, 1], a float32 scalar.
    """
    logits, truth, counts = _unpack(outputs, batch)
    weight = jnp.where(counts, batch["weight"], 0.0)[..., None]
    probability = jax.nn.sigmoid(logits) * weight
    overlap = (probability * truth).sum((0, 1, 2))
    total = (probability + truth * weight).sum((0, 1, 2))
    return 1 - ((2 * overlap + smoothing) / (total + smoothing)).mean()


def binary_cross_entropy_and_dice(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    dice_weight: float = 1.0,
    pos_weight: PosWeight = None,
    label_smoothing: float = 0.0,
) -> Array:
    """The sum of `binary_cross_entropy` (mean) and `dice_weight` times `sigmoid_dice`.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      dice_weight: factor of the Dice loss.
      pos_weight: of the cross-entropy.
      label_smoothing: of the cross-entropy.

    Returns:
      The loss, a float32 scalar.
    """
    entropy = binary_cross_entropy(
        outputs, batch, pos_weight=pos_weight, label_smoothing=label_smoothing
    )
    return entropy + dice_weight * sigmoid_dice(outputs, batch)


def _unpack(
    outputs: Mapping[str, Array], batch: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    """Float32 logits, the truth of each class `[B, H, W, K]`, 0 or 1, and what counts."""
    logits, label, counts = unpack(outputs, batch)
    bits = jnp.array(class_bits(logits.shape[-1]), label.dtype)
    truth = (label[..., None] & bits[None, None, None]) != 0
    return logits, truth.astype(jnp.float32), counts


def _positive(pos_weight: PosWeight, num_classes: int) -> Array:
    """`pos_weight` of each logit, `[1, 1, 1, K]`."""
    one = 1.0 if pos_weight is None else pos_weight
    given = one if isinstance(one, tuple) else (one,) * num_classes
    if len(given) != num_classes:
        raise ValueError(
            f"pos_weight has {len(given)} entries for {num_classes} logits"
        )
    if not all(0 < factor < math.inf for factor in given):
        raise ValueError(f"pos_weight must be above 0 and finite, got {pos_weight}")
    return jnp.asarray(given, jnp.float32)[None, None, None]
