"""Losses of semantic segmentation.

Each takes the outputs of a model, `logits` `[B, H, W, K]`, and a batch of `label`
`[B, H, W]` with `weight` `[B, H, W]`, and returns one float32 number. Pixels labelled
`IGNORE_LABEL` do not count, nor do those of weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from segjax.losses.pixel_weights import (
    check_smoothing,
    class_factors,
    reduce_pixels,
    select,
    unpack,
)
from segjax.types import Array

_LEAST_MISS = 1e-7
"""Below it `1 - p` is rounding; its powers below 1 have no finite slope at 0."""


def cross_entropy(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    class_weights: tuple[float, ...] | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """Softmax cross-entropy, `-sum_x w(x) log p_{l(x)}(x)`, over the pixels that count.

    U-Net (Ronneberger et al. 2015, arXiv 1505.04597, equation 1, where the minus sign is
    missing) sums over pixels; the mean makes the learning rate independent of the crop.
    It is `focal` with gamma 0.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      class_weights: one factor per class, on top of the pixels' weights.
      label_smoothing: part of the truth that is spread over all K classes alike, in
        [0, 1): Szegedy et al. 2016, arXiv 1512.00567, section 7. The factor of a class
        goes with its part of the truth.
      reduction: "mean", divided by the number of pixels that count (not by the sum of
        their weights, so that weights keep their meaning), or "sum".

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if the reduction is unknown, `class_weights` has another length than K, or
        `label_smoothing` is out of its range.
    """
    check_smoothing(label_smoothing)
    loss = focal(
        outputs, batch, gamma=0.0, class_weights=class_weights, reduction=reduction
    )
    if not label_smoothing:
        return loss
    logits, _, counts = unpack(outputs, batch)
    factors = jnp.asarray(class_weights or 1.0, jnp.float32).reshape(1, 1, 1, -1)
    of_all = -(jax.nn.log_softmax(logits) * factors).mean(-1)
    uniform = reduce_pixels(of_all * batch["weight"], counts, reduction)
    return (1 - label_smoothing) * loss + label_smoothing * uniform


def focal(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    gamma: float = 2.0,
    class_weights: tuple[float, ...] | None = None,
    reduction: str = "mean",
) -> Array:
    """Focal loss, `-sum_x w(x) (1 - p)^gamma log p` with p of the true class.

    Lin, Goyal, Girshick, He, Dollar, ICCV 2017, arXiv 1708.02002, section 3.2, with a
    softmax over K classes in the place of the paper's sigmoid; its alpha is
    `class_weights`. Pixels that are right already weigh little: at gamma 2 one with
    p = 0.9 costs a hundredth of its cross-entropy.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      gamma: at least 0; 0 is the cross-entropy.
      class_weights: one factor per class, on top of the pixels' weights.
      reduction: "mean", divided by the number of pixels that count, or "sum".

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if gamma is negative, the reduction is unknown, or `class_weights` has
        another length than K.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be a finite number of at least 0, got {gamma}")
    logits, label, counts = unpack(outputs, batch)
    log_p = select(jax.nn.log_softmax(logits), label)
    loss = -log_p * class_factors(class_weights, label, logits.shape[-1])
    if gamma:
        loss *= jnp.maximum(-jnp.expm1(log_p), _LEAST_MISS) ** gamma
    return reduce_pixels(loss * batch["weight"], counts, reduction)


def hard_cross_entropy(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    fraction: float = 1 / 16,
    threshold: float | None = 0.7,
    minimum: int = 0,
    class_weights: tuple[float, ...] | None = None,
) -> Array:
    """Mean cross-entropy of the hard pixels of a batch: online hard example mining.

    Shrivastava, Gupta, Girshick, CVPR 2016, arXiv 1604.03540, for pixels instead of
    regions. A pixel is hard if the probability of its true class is below `threshold`,
    or if it is one of the hardest: the `fraction` of those that count, and at least
    `minimum` of them. The defaults are those of BiSeNet (Yu et al. 2018, arXiv
    1808.00897); `threshold=None` takes the hardest alone. Which pixels are
    hard is decided over the whole batch, by probability alone, and has no gradient;
    pixels as hard as the last of the hardest are taken with it.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      fraction: of the pixels that count, in [0, 1], rounded up.
      threshold: probability in (0, 1], or None.
      minimum: pixels of the batch.
      class_weights: one factor per class, on top of the pixels' weights.

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: if an argument is out of its range, or nothing would be hard.
    """
    _check_hard(fraction, threshold, minimum)
    logits, label, counts = unpack(outputs, batch)
    loss = -select(jax.nn.log_softmax(logits), label)
    hardness = lax.stop_gradient(jnp.where(counts, loss, -1.0))
    hardest = jnp.maximum(jnp.ceil(fraction * counts.sum()).astype(jnp.int32), minimum)
    ranked = jnp.sort(hardness.ravel(), descending=True)
    limit = ranked[jnp.clip(hardest, 1, ranked.size) - 1]
    hard = counts & (hardness >= limit) & (hardest > 0)
    if threshold is not None:
        hard |= counts & (hardness > -math.log(threshold))
    loss *= class_factors(class_weights, label, logits.shape[-1])
    return reduce_pixels(loss * batch["weight"], hard, "mean")


def _check_hard(fraction: float, threshold: float | None, minimum: int) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], or None, got {threshold}")
    if type(minimum) is not int or minimum < 0:
        raise ValueError(f"minimum is a number of pixels, at least 0, got {minimum!r}")
    if threshold is None and not fraction and not minimum:
        raise ValueError(
            "fraction must be above 0 where threshold is None and minimum is 0: no pixel "
            "would be hard"
        )


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
        present nor predicted then costs nothing.

    Returns:
      The loss in [0, 1], a float32 scalar.
    """
    overlap, total = _soft_counts(outputs, batch)
    return 1 - ((2 * overlap + smoothing) / (total + smoothing)).mean()


def jaccard(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    smoothing: float = 1.0,
) -> Array:
    """Soft Jaccard loss, `1 - mean_k |P_k T_k| / (|P_k| + |T_k| - |P_k T_k|)`.

    Rahman, Wang, ISVC 2016 (doi 10.1007/978-3-319-50835-1_22): the intersection over
    union of probabilities, over the whole batch. At probabilities of 0 and 1 it is one
    minus the mean IoU; between them `lovasz_softmax` is the tighter one.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      smoothing: added to numerator and denominator, in pixels; a class that is neither
        present nor predicted then costs nothing.

    Returns:
      The loss in [0, 1], a float32 scalar.
    """
    overlap, total = _soft_counts(outputs, batch)
    return 1 - ((overlap + smoothing) / (total - overlap + smoothing)).mean()


def cross_entropy_and_dice(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    dice_weight: float = 1.0,
    class_weights: tuple[float, ...] | None = None,
    label_smoothing: float = 0.0,
) -> Array:
    """The sum of `cross_entropy` (mean) and `dice_weight` times `dice`.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      dice_weight: factor of the Dice loss.
      class_weights: factor of the cross-entropy of each class, K numbers.
      label_smoothing: of the cross-entropy.

    Returns:
      The loss, a float32 scalar.
    """
    entropy = cross_entropy(
        outputs, batch, class_weights=class_weights, label_smoothing=label_smoothing
    )
    return entropy + dice_weight * dice(outputs, batch)


def _soft_counts(
    outputs: Mapping[str, Array], batch: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Weighted pixels of each class `[K]`: in both, and in truth plus in prediction."""
    logits, label, counts = unpack(outputs, batch)
    weight = jnp.where(counts, batch["weight"], 0.0)[..., None]
    probability = jax.nn.softmax(logits) * weight
    truth = jax.nn.one_hot(label, logits.shape[-1]) * weight
    overlap = (probability * (truth > 0)).sum((0, 1, 2))
    return overlap, probability.sum((0, 1, 2)) + truth.sum((0, 1, 2))
