"""Checks that network, crop, labels and loss fit, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from segjax import parts
from segjax.data.dataset import Dataset, parts_of
from segjax.errors import UserError, shown
from segjax.geometry.input_sizes import Geometry, geometry_of
from segjax.predict.test_time import TestTimeAugmentation
from segjax.training.step import forward_image, streams
from segjax.types import is_integer

Size = tuple[int, int]

MOST_RECORDS = 16
"""Images whose sizes a network is tried on."""


def crop_sizes(
    config: ml_collections.ConfigDict, geometry: Geometry
) -> tuple[Size, Size]:
    """Checks the crop against the network.

    Args:
      config: the experiment.
      geometry: of its network.

    Returns:
      Height and width of a training image, and of what the network makes of it.

    Raises:
      UserError: if the crop is none, or the network does not take it.
    """
    size = config.pipeline.get("input_size")
    is_pair = isinstance(size, tuple) and len(size) == 2
    if not is_pair or not all(map(is_integer, size)):
        raise UserError(
            "config.pipeline.input_size is (height, width) in whole pixels, got "
            f"{size!r}."
        )
    for side in size:
        try:
            geometry.check_input_side(side, name="config.pipeline.input_size")
        except ValueError as error:
            raise UserError(f"{error}.") from error
    height, width = (side - 2 * geometry.margin for side in size)
    return size, (height, width)


def check_network(task: Any, dataset: Dataset) -> None:
    """Checks a network from outside: it runs, and gives logits of the size of the labels.

    It is traced on a crop, and where it is given images whole, on the sizes of some of those
    that are evaluated.

    Args:
      task: a `segjax.tasks.semantic.prediction.SemanticPrediction`; networks of segjax are
        not looked at.
      dataset: its data.

    Raises:
      UserError: saying what it does instead.
    """
    if not parts.is_outside(task.config.model.name):
        return
    model, geometry = task.evaluated_model, geometry_of(task.evaluated_model)
    sizes = {task.input_size: None}
    if not geometry.tiles and task.evaluation.passes.is_one:
        records = dataset.splits.get(task.evaluation.split, ())
        for i in range(min(len(records), MOST_RECORDS)):
            height, width = parts_of(records[i])["image"].shape[:2]
            side = lambda n: geometry.next_accepted(n + 2 * geometry.margin)
            sizes[side(height), side(width)] = None
    for height, width in sizes:
        shape = (1, height, width, dataset.channels)
        outputs = _outputs(task.config, model, shape)
        lost = 2 * geometry.margin
        _check_logits(task.config, outputs, (1, height - lost, width - lost))


def check_step(task: Any, channels: int) -> None:
    """Checks network and loss from outside on the shapes of a batch of training.

    Args:
      task: a `segjax.tasks.semantic.task.SemanticTask`.
      channels: of the images.

    Raises:
      UserError: if one of them fails, the logits have another shape than the labels, or the
        loss is not one number.
    """
    config, model = task.config, task.model
    if not any(parts.is_outside(config[x].name) for x in ("model", "loss")):
        return
    variables = jax.eval_shape(lambda: task.init_variables(channels))
    batch = task.abstract_batch(channels, config.batch_size)
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        outputs, _ = jax.eval_shape(
            lambda *given: forward_image(model, *given), variables, batch, key
        )
    except Exception as error:  # whatever code from outside can raise
        raise _failure("config.model", config, batch["image"].shape, error) from error
    _check_logits(config, outputs, batch["label"].shape)
    try:
        value = jax.eval_shape(task.loss.on_shapes, outputs, batch)
    except UserError:
        raise
    except Exception as error:
        raise _failure("config.loss", config, batch["image"].shape, error) from error
    number = value[0] if isinstance(value, tuple) else value
    is_float = jnp.issubdtype(getattr(number, "dtype", jnp.int32), jnp.floating)
    if getattr(number, "shape", None) != () or not is_float:
        raise UserError(
            f"config.loss.name is {config.loss.name!r}, which gives {_told(number)}: a loss "
            "is one number in floating point."
        )


def _outputs(
    config: ml_collections.ConfigDict, model: nn.Module, shape: tuple[int, ...]
) -> Any:
    """Shapes of what a network makes of an image, not training."""
    image = jax.ShapeDtypeStruct(shape, jnp.float32)

    def run(image: jax.Array) -> Any:
        key = jax.random.key(0)
        variables = model.init(key, image, train=False)
        rngs = streams("dropout", key)
        return model.apply(variables, image, train=False, rngs=rngs)

    try:
        return jax.eval_shape(run, image)
    except Exception as error:  # whatever code from outside can raise
        raise _failure("config.model", config, shape, error) from error


def _check_logits(
    config: ml_collections.ConfigDict, outputs: Any, shape: tuple[int, ...]
) -> None:
    """Checks logits against labels of a shape (B, H, W)."""
    name = config.model.name
    if not isinstance(outputs, Mapping) or "logits" not in outputs:
        found = list(outputs) if isinstance(outputs, Mapping) else _told(outputs)
        raise UserError(
            f"config.model.name is {name!r}, which gives {shown(found)}: a network gives a "
            'dict with "logits".'
        )
    logits, expected = outputs["logits"], (*shape, config.model.num_classes)
    if getattr(logits, "shape", None) != expected:
        raise UserError(
            f"config.model.name is {name!r}, whose logits are {_told(logits)}, but the labels "
            f"want {list(expected)}: logits have the size of the image, or what `geometry` "
            "says of it, and config.model.num_classes channels."
        )


def _told(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _failure(
    where: str,
    config: ml_collections.ConfigDict,
    shape: tuple[int, ...],
    error: Exception,
) -> UserError:
    name = config[where.partition(".")[2]].name
    hint = ""
    if where == "config.model" and not parts.is_outside(name):
        return UserError(f"{where} fails on images of {list(shape)}: {error}.")
    if where == "config.model":
        hint = (
            " If it does not take images of all sizes, give it a `geometry` "
            "(segjax.geometry.Geometry) with its stride."
        )
    return UserError(
        f"{where}.name is {name!r}, which fails on images of {list(shape)}: "
        f"{parts.told(error)}.{hint}"
    )


def check_tile(
    tile: int, geometry: Geometry, passes: TestTimeAugmentation, network: str
) -> None:
    """Checks that tiles give what the whole image gives.

    Args:
      tile: output side of a tile in pixels.
      geometry: of the network.
      passes: that predictions are averaged over.
      network: its name, for the message.

    Raises:
      UserError: if they would change the result.
    """
    if geometry.tiles and passes.is_one:
        return
    raise UserError(
        f"The tile is {tile}, but "
        + (
            "config.evaluation averages several passes over each image"
            if geometry.tiles
            else f'each output pixel of "{network}" sees the whole image, so tiles would '
            "change the result"
        )
        + ": use 0, the whole image, or config.evaluation.crop for crops that overlap."
    )
