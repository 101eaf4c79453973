"""Which anchor or region answers for which object, and which of them are trained on.

Ren, He, Girshick, Sun, NIPS 2015, arXiv 1506.01497, section 3.1.2. Objects stand in a
fixed number of slots, some of them empty; what is sampled is a fixed number of slots, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

NEGATIVE, IGNORED = -1, -2
"""Results of `match` for boxes without an object: background, and neither."""


def match(
    iou: Array, *, high: float, low: float, low_quality: bool, valid: Array
) -> Array:
    """Assigns to each box the object that it overlaps most, if it does so enough.

    At an IoU of `high` or more a box answers for that object; below `low` it is
    background; between them it is neither. With `low_quality` every box that reaches an
    object's best IoU answers, too, but for the object that it overlaps most itself, as
    in torchvision. There an object that overlaps no box at all has a best IoU of 0 and
    makes every box answer; here it makes none.

    Args:
      iou: `[G, N]` of objects and boxes.
      high: least IoU with which a box answers for an object.
      low: IoU under which it is background; at most `high`.
      low_quality: whether the best box of every object answers for some object.
      valid: `[G]` bool; empty slots and crowds are False, and nothing answers for them.

    Returns:
      `[N]` int32: the object's slot, -1 for background, -2 for neither.

    Raises:
      ValueError: if a shape is another one or `low` is above `high`.

    Example:
      >>> iou = jnp.array([[0.8, 0.5, 0.1], [0.0, 0.4, 0.2], [0.9, 0.9, 0.9]])
      >>> valid = jnp.array([True, True, False])
      >>> match(iou, high=0.7, low=0.3, low_quality=False, valid=valid).tolist()
      [0, -2, -1]
      >>> match(iou, high=0.7, low=0.3, low_quality=True, valid=valid).tolist()
      [0, 0, -1]
    """
    if iou.ndim != 2 or valid.shape != iou.shape[:1]:
        raise ValueError(
            f"iou is {iou.shape} and valid {valid.shape}; allowed are [G, N] and [G]"
        )
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"low is {low} and high {high}; allowed is 0 <= low <= high <= 1"
        )
    if not iou.shape[0]:
        return jnp.full(iou.shape[1], NEGATIVE, jnp.int32)
    # An empty slot must not have a best IoU of 0, which every box would reach.
    iou = jnp.where(valid[:, None], lax.stop_gradient(iou), -1.0)
    best = iou.max(0)
    nearest = iou.argmax(0).astype(jnp.int32)
    rest = jnp.where(best < low, NEGATIVE, IGNORED)
    answers = best >= high
    if low_quality:
        reach = iou.max(1, keepdims=True)
        answers |= ((iou == reach) & (reach > 0)).any(0)
    return jnp.where(answers & (best >= 0), nearest, rest).astype(jnp.int32)


def ignore_crowds(
    matched: Array, inside: Array, crowd: Array, *, limit: float = 0.5
) -> Array:
    """Takes background that lies in a crowd out of training.

    Args:
      matched: `[N]`, as from `match`.
      inside: `[N, G]`, fraction of each box that lies in each object, as from
        `boxes.pairwise_intersection_over`.
      crowd: `[G]` bool.
      limit: least such fraction of a box that is left out.

    Returns:
      `[N]` int32: `matched`, with -2 for background in a crowd.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> matched, inside = jnp.array([0, -1, -1]), jnp.array([[0.9], [0.9], [0.1]])
      >>> ignore_crowds(matched, inside, jnp.array([True])).tolist()
      [0, -2, -1]
    """
    if inside.shape != matched.shape + crowd.shape or matched.ndim != 1:
        raise ValueError(
            f"matched is {matched.shape}, inside {inside.shape} and crowd {crowd.shape}; "
            "allowed are [N], [N, G] and [G]"
        )
    hidden = ((inside >= limit) & crowd[None]).any(1)
    return jnp.where((matched == NEGATIVE) & hidden, IGNORED, matched)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sample:
    """Boxes that were sampled, in slots: positives first, then background, then none.

    Attributes:
      index: `[num]` int32, position of the box.
      positive: `[num]` bool, whether it answers for an object.
      valid: `[num]` bool, whether there is a box in the slot.
    """

    index: Array
    positive: Array
    valid: Array


def sample(
    matched: Array, priorities: Array, *, num: int, positive_fraction: float
) -> Sample:
    """Samples `num` boxes, at most a fraction of them positive, the rest background.

    Those of the highest priority are sampled: `jax.random.uniform(key, [N])` for a sample
    by chance, `-jnp.arange(N)` for the first ones. Missing positives are made up for by
    background, as in torchvision; a positive stands in the first
    `int(num * positive_fraction)` slots, so that heads of positives need no others.

    Args:
      matched: `[N]` int, as from `match`: at least 0 positive, -1 background, others are
        not sampled.
      priorities: `[N]`, finite; of equal ones the first comes first.
      num: slots.
      positive_fraction: largest fraction of positives, in [0, 1].

    Returns:
      The slots.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> matched = jnp.array([-1, 3, -2, -1, 0, 1])
      >>> sampled = sample(matched, -jnp.arange(6.0), num=4, positive_fraction=0.5)
      >>> sampled.index.tolist(), sampled.positive.tolist()
      ([1, 4, 0, 3], [True, True, False, False])
    """
    if matched.ndim != 1 or priorities.shape != matched.shape:
        raise ValueError(
            f"matched is {matched.shape} and priorities {priorities.shape}; allowed are "
            "two of [N]"
        )
    if num < 1 or not 0 <= positive_fraction <= 1:
        raise ValueError(
            f"num is {num} and positive_fraction {positive_fraction}; allowed are at least "
            "1 and [0, 1]"
        )
    most = int(num * positive_fraction)
    positives, positive_count = _first(matched >= 0, priorities, most)
    negatives, negative_count = _first(matched == NEGATIVE, priorities, num)
    slot = jnp.arange(num, dtype=jnp.int32)
    positive = slot < positive_count
    after = jnp.clip(slot - positive_count, 0, num - 1)
    positives = jnp.pad(positives, (0, num - most))
    index = jnp.where(positive, positives, negatives[after])
    valid = slot < jnp.minimum(positive_count + negative_count, num)
    return Sample(jnp.where(valid, index, 0), positive, valid)


def _first(wanted: Array, priorities: Array, most: int) -> tuple[Array, Array]:
    """Positions `[most]` of the wanted of highest priority, and how many there are."""
    taken = min(most, wanted.shape[0])
    rank = jnp.where(wanted, lax.stop_gradient(priorities), -jnp.inf)
    _, index = lax.top_k(rank, taken)
    count = jnp.minimum(wanted.sum(dtype=jnp.int32), most)
    return jnp.pad(index.astype(jnp.int32), (0, most - taken)), count


def sample_weights(
    matched: Array, priorities: Array, *, num: int, positive_fraction: float
) -> Array:
    """Samples as `sample` does, and returns it as a weight of every box.

    Args:
      matched: as in `sample`, and so are the other arguments.
      priorities: `[N]`, finite.
      num: boxes to sample.
      positive_fraction: largest fraction of positives, in [0, 1].

    Returns:
      `[N]` float32, 1 for what is sampled, else 0.

    Raises:
      ValueError: if a shape is another one or an argument out of its range.

    Example:
      >>> matched = jnp.array([-1, 3, -2, -1, 0, 1])
      >>> first = -jnp.arange(6.0)
      >>> sample_weights(matched, first, num=3, positive_fraction=0.5).tolist()
      [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    """
    sampled = sample(matched, priorities, num=num, positive_fraction=positive_fraction)
    weights = jnp.zeros(matched.shape, jnp.float32)
    return weights.at[sampled.index].max(sampled.valid.astype(jnp.float32))
