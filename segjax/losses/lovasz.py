"""The Lovasz-softmax loss: a surrogate of one minus the mean IoU, for any probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from segjax.losses.pixel_weights import unpack
from segjax.types import Array


def lovasz_softmax(
    outputs: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    classes: str | tuple[int, ...] = "present",
    per_image: bool = False,
) -> Array:
    """Lovasz extension of the Jaccard loss, `mean_c sum_i m_i(c) g_i(m(c))`.

    Berman, Triki, Blaschko, CVPR 2018, arXiv 1705.08790, equations 8 to 11. The error
    of a pixel for class c is `m = |[c is true] - p_c|`; the pixels are ranked by it, the
    worst first, and each weighs what it takes from the class's IoU when it joins those
    before it. These weights are the gradient with respect to m; the ranking has none.

    A pixel of weight w is w equal pixels. Each step of the IoU is computed on its own
    and not as a difference of two IoUs, where float32 would lose most of it.

    Args:
      outputs: `logits` `[B, H, W, K]`.
      batch: `label` `[B, H, W]` int, `weight` `[B, H, W]`.
      classes: "present" in the truth, "all", or the numbers of those that are averaged.
      per_image: whether each image is ranked on its own and the images averaged;
        otherwise the batch is one image.

    Returns:
      The loss in [0, 1], a float32 scalar.

    Raises:
      ValueError: if classes is another word or names a class that does not exist.
    """
    logits, label, counts = unpack(outputs, batch)
    images, num_classes = logits.shape[0], logits.shape[-1]
    chosen = _chosen(classes, num_classes)
    groups = images if per_image else 1
    weight = jnp.where(counts, batch["weight"], 0.0).reshape(groups, -1)
    probability = jax.nn.softmax(logits).reshape(groups, -1, num_classes)
    label = label.reshape(groups, -1)

    def of_class(number: Array) -> tuple[Array, Array]:
        truth = label == number
        p = lax.dynamic_index_in_dim(probability, number, -1, keepdims=False)
        error = jnp.where(weight > 0, jnp.abs(truth.astype(jnp.float32) - p), 0.0)
        step = jax.vmap(jaccard_steps)(lax.stop_gradient(error), truth, weight)
        return (error * step).sum(-1), (truth & (weight > 0)).any(-1)

    # One class after the other: K rankings at a time would take K times the memory.
    loss, present = lax.map(of_class, jnp.array(chosen))
    if classes != "present":
        present = jnp.broadcast_to((weight > 0).any(-1)[None], present.shape)
    by_image = jnp.where(present, loss, 0.0).sum(0) / jnp.maximum(present.sum(0), 1)
    return by_image.sum() / jnp.maximum(present.any(0).sum(), 1)


def jaccard_steps(error: Array, truth: Array, weight: Array) -> Array:
    """The IoU that a class loses with each pixel, as errors join in order, the worst first.

    Args:
      error: how wrong each pixel is, `[N]`, from 0.
      truth: whether it is of the class, bool `[N]`.
      weight: its importance, `[N]`; one of weight 0 takes nothing.

    Returns:
      The steps `[N]`, from 0; their sum is 1 unless all weights are 0.

    Example:
      >>> error, truth = jnp.array([0.1, 0.9, 0.5]), jnp.array([True, False, True])
      >>> steps = jaccard_steps(error, truth, jnp.ones(3))
      >>> [round(float(step), 4) for step in steps]
      [0.3333, 0.3333, 0.3333]
    """
    positions = jnp.arange(error.size)
    # Equal errors keep their order, so that the result is the same on every backend.
    _, order = lax.sort((-error, positions), num_keys=1, is_stable=True)
    hit, w = truth[order], weight[order]
    found = jnp.where(hit, w, 0.0)
    total = found.sum()
    # Of the prediction that has all pixels up to here wrong.
    intersection = jnp.maximum(total - jnp.cumsum(found), 0.0)
    union = total + jnp.cumsum(w - found)
    before = union - (w - found)
    lost = jnp.where(hit, w, w * intersection / jnp.where(before > 0, before, 1.0))
    step = jnp.where(before > 0, lost / jnp.where(union > 0, union, 1.0), w > 0)
    return jnp.zeros_like(error).at[order].set(step, unique_indices=True)


def _chosen(classes: str | tuple[int, ...], num_classes: int) -> tuple[int, ...]:
    """The numbers of the classes that are averaged."""
    if classes in ("present", "all"):
        return tuple(range(num_classes))
    if (
        isinstance(classes, str)
        or not classes
        or not all(type(c) is int and 0 <= c < num_classes for c in classes)
    ):
        raise ValueError(
            'classes is "present", "all" or a tuple of numbers from 0 to '
            f"{num_classes - 1}, got {classes!r}"
        )
    return tuple(classes)
