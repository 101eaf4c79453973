"""Mixing the examples of a batch with each other, on the device, within the step.

Each function takes a key and a batch, and gives a batch of the same shapes. An example meets
the next one of the batch, whose order is random: a shift moves little between devices where a
permutation moves all. What is random comes from the key of the step, so that a resumed run
mixes the same.

`mixup` cannot say what it made by one label a pixel. It adds `other_label`, `other_weight`
and `other_fraction`, and `over_labels` makes of any loss the mean over both labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from segjax import config as config_lib
from segjax import parts
from segjax.errors import UserError
from segjax.types import Array

Batch = Mapping[str, Array]
Mix = Callable[[Array, Batch], dict[str, Array]]

STREAM = 0x6D6978
"""Folded into the key of a step, so that mixing and dropout do not share it."""


def mixup(
    key: Array, batch: Batch, *, alpha: float = 0.2, probability: float = 1.0
) -> dict[str, Array]:
    """Blends each image with the next one; both labels count, in the same parts.

    Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018, arXiv 1710.09412: `x = f x_i + (1 - f) x_j`
    with f of Beta(alpha, alpha), one for the batch as in the authors' code. The loss
    `f L(y_i) + (1 - f) L(y_j)` is that of the blended one-hot labels, where it is a
    cross-entropy. Each label leaves out its own pixels that do not count.

    Args:
      key: of the step.
      batch: `image` `[B, H, W, C]`, `label` and `weight` `[B, h, w]`, B at least 2.
      alpha: of the distribution, above 0; the larger, the more even the parts.
      probability: how often a batch is blended at all.

    Returns:
      The batch with `other_label`, `other_weight` and `other_fraction`, the part of the
      other labels.

    Raises:
      ValueError: when a number is out of its range.
    """
    _check(alpha, probability)
    of_fraction, of_chance = jax.random.split(key)
    fraction = jax.random.beta(of_fraction, alpha, alpha, dtype=jnp.float32)
    mixes = jax.random.uniform(of_chance) < probability
    fraction = jnp.where(mixes, 1 - fraction, 0.0)
    image = batch["image"]
    return {
        **batch,
        "image": image + fraction * (_next(image) - image),
        "other_label": _next(batch["label"]),
        "other_weight": _next(batch["weight"]),
        "other_fraction": fraction,
    }


def cutmix(
    key: Array, batch: Batch, *, alpha: float = 1.0, probability: float = 0.5
) -> dict[str, Array]:
    """Puts a box of the next image into each image, with its label and weight.

    Yun, Han, Oh, Chun, Choe, Yoo, ICCV 2019, arXiv 1905.04899, section 3.1: the box has the
    part 1 - f of the image, f of Beta(alpha, alpha), its shape, and a centre anywhere, so
    that the border may cut it. Labels of pixels go along with their pixels (French et al.
    2020, arXiv 1906.01916), in place of the paper's mean of labels of images. Each example
    has a box of its own.

    Args:
      key: of the step.
      batch: `image` `[B, H, W, C]`, `label` and `weight` `[B, h, w]`, B at least 2; what is
        labelled is the middle of the image.
      alpha: of the distribution, above 0; 1 makes all sizes as likely.
      probability: how often an example gets a box at all.

    Returns:
      The batch.

    Raises:
      ValueError: when a number is out of its range.
    """
    _check(alpha, probability)
    size, height, width, _ = batch["image"].shape
    inside = _boxes(key, size, (height, width), alpha, probability)
    return {
        **batch,
        "image": jnp.where(inside[..., None], _next(batch["image"]), batch["image"]),
        **{
            name: jnp.where(
                _middle(inside, batch[name].shape), _next(batch[name]), batch[name]
            )
            for name in ("label", "weight")
        },
    }


MIXES: dict[str, Callable[..., dict[str, Array]]] = {"mixup": mixup, "cutmix": cutmix}


def _check(alpha: float, probability: float) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a finite number above 0, got {alpha}")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")


def _next(x: Array) -> Array:
    return jnp.roll(x, -1, axis=0)


def _boxes(
    key: Array, count: int, size: tuple[int, int], alpha: float, probability: float
) -> Array:
    """Which pixels lie in the box of each example, bool `[B, H, W]`."""
    of_fraction, of_center, of_chance = jax.random.split(key, 3)
    fraction = jax.random.beta(of_fraction, alpha, alpha, (count, 1), jnp.float32)
    sides = jnp.array([size], jnp.float32)
    half = sides * jnp.sqrt(1 - fraction) / 2
    center = jax.random.uniform(of_center, (count, 2)) * sides
    mixes = jax.random.uniform(of_chance, (count, 1)) < probability
    low = jnp.where(mixes, jnp.round(center - half), jnp.inf)
    high = jnp.round(center + half)

    def within(axis: int) -> Array:
        at = jnp.arange(size[axis])[None]
        return (at >= low[:, axis, None]) & (at < high[:, axis, None])

    return within(0)[:, :, None] & within(1)[:, None, :]


def _middle(inside: Array, shape: tuple[int, ...]) -> Array:
    """What of `[B, H, W]` lies over the labels `[B, h, w]`."""
    top, left = ((n - s) // 2 for n, s in zip(inside.shape[1:], shape[1:], strict=True))
    return inside[:, top : top + shape[1], left : left + shape[2]]


def over_labels(loss: Callable[..., Any]) -> Callable[[Any, Batch], Any]:
    """Makes of a loss the mean over both labels of each pixel, where there are two.

    Args:
      loss: maps outputs and batch to a number, or to it and its parts by name.

    Returns:
      A function like it.

    Example:
      >>> mean = over_labels(lambda outputs, batch: batch["label"])
      >>> mixed = {"label": 1.0, "other_label": 5.0, "other_weight": 1.0}
      >>> mean({}, {**mixed, "other_fraction": 0.25})
      2.0
    """

    def mean(outputs: Any, batch: Batch) -> Any:
        if "other_fraction" not in batch:
            return loss(outputs, batch)
        fraction = batch["other_fraction"]
        other = {
            **batch,
            "label": batch["other_label"],
            "weight": batch["other_weight"],
        }
        return jax.tree.map(
            lambda one, two: (1 - fraction) * one + fraction * two,
            loss(outputs, batch),
            loss(outputs, other),
        )

    return mean


def mix_from(
    config: ml_collections.ConfigDict, shapes: Mapping[str, Any]
) -> Mix | None:
    """The mixing that `config.mix` names; None where it names none.

    Args:
      config: the experiment.
      shapes: of a batch, to try it on.

    Returns:
      A function of a key and a batch.

    Raises:
      UserError: naming the key that is wrong.
    """
    if "mix" not in config:
        return None
    where = "config.mix"
    function = parts.find(MIXES, config.mix.get("name"), f"{where}.name")
    arguments = config_lib.check_arguments(
        function, config.mix, where, given_later=("key", "batch")
    )
    if config.batch_size < 2:
        raise UserError(
            f"{where} mixes the examples of a batch, but config.batch_size is "
            f"{config.batch_size}: use at least 2, or leave {where} out."
        )
    mix = lambda key, batch: function(key, batch, **arguments)
    try:
        found = jax.eval_shape(mix, jax.eval_shape(lambda: jax.random.key(0)), shapes)
    except Exception as error:  # whatever code from outside can raise
        if config.mix.name in MIXES:
            raise UserError(f"{where}: {error}.") from error
        raise UserError(
            f"{where}.name is {config.mix.name!r}, which fails: {parts.told(error)}."
        ) from error
    for name, x in shapes.items():
        given = isinstance(found, Mapping) and found.get(name)
        if getattr(given, "shape", None) != x.shape:
            raise UserError(
                f"{where}.name is {config.mix.name!r}, which does not give {name!r} as "
                f"{list(x.shape)}: a mixing gives a batch of the same shapes."
            )
    return mix


def mixed(mix: Mix | None, batch: Batch, *, seed: int, step: Array) -> Batch:
    """The batch of a step, mixed; traceable."""
    if mix is None:
        return batch
    key = jax.random.fold_in(jax.random.key(seed), step)
    return mix(jax.random.fold_in(key, STREAM), batch)
