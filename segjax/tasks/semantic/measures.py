"""What is measured on each image beside the confusion counts.

A measure looks at one image after the other, adds what it sees to that of the other processes
at the end, and gives metrics by name.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from segjax import parts
from segjax.data.dataset import LazyPage
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.metrics import (
    boundary_counts,
    boundary_iou_counts,
    boundary_iou_metrics,
    boundary_metrics,
    calibration_counts,
    calibration_metrics,
    surface_counts,
    surface_metrics,
    trimap_counts,
    trimap_metrics,
)
from segjax.metrics.calibration import BINS
from segjax.training import sharding
from segjax.types import IGNORE_LABEL, Array, Record

log = logging.getLogger("segjax")

Page = Mapping[str, np.ndarray]
"""A predicted image: `labels` `[H, W]`, and what else was asked for."""


ImageLoss = Callable[[Array, Array, Array], Array]
"""From logits `[H, W, K]`, labels and weights `[H, W]` of an image to its loss."""


class Measure(Protocol):
    """Something that is measured on images.

    Attributes:
      outputs: of the predictor that are needed besides `labels`.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """Of the predictor, besides `labels`."""
        ...

    def add(self, place: int, record: Record, page: Page) -> Mapping[str, float]:
        """Adds an image.

        Args:
          place: of the record in the split.
          record: the image and its `label`, `[H, W]`.
          page: what was predicted.

        Returns:
          The metrics of this image alone, by name; empty where it has none of its own.
        """
        ...

    def gather(self) -> None:
        """Adds what the other processes saw; all of them call it."""
        ...

    def metrics(self) -> dict[str, float]:
        """The metrics of all images that were added, by name."""
        ...


class Sums:
    """A measure that adds up an array of each image."""

    outputs: tuple[str, ...] = ()

    def __init__(
        self,
        count: Callable[[np.ndarray, np.ndarray], np.ndarray],
        read: Callable[[np.ndarray], dict[str, float]],
        shape: tuple[int, ...],
    ):
        """Takes how an image is counted, and how the sum is read.

        Args:
          count: from the label and the predicted labels, `[H, W]`, to an array.
          read: from the sum of these arrays to metrics.
          shape: of the arrays.
        """
        self._count, self._read = count, read
        self.total = np.zeros(shape)

    def add(self, place: int, record: Record, page: Page) -> Mapping[str, float]:
        """Adds an image; see `Measure`."""
        del place
        found = self._count(np.asarray(record["label"]), page["labels"])
        self.total = self.total + found
        return self._read(found)

    def gather(self) -> None:
        """Adds the sums of the other processes."""
        self.total = sharding.gather(self.total[None]).sum(0)

    def metrics(self) -> dict[str, float]:
        """The metrics of all images that were added."""
        return self._read(self.total)


def boundary_measures(
    spec: LabelSpec,
    *,
    f1: bool = False,
    iou: bool = False,
    surface: bool = False,
    widths: tuple[float, ...] = (),
) -> list[Sums]:
    """Makes the measures of boundaries that are wanted.

    Args:
      spec: names of the classes.
      f1: whether the boundary F1 is.
      iou: whether the boundary IoU is.
      surface: whether the surface distances are.
      widths: of bands around boundaries.

    Returns:
      The measures.
    """
    classes, names = spec.num_classes, spec.names

    def made(count: Any, read: Any, shape: tuple[int, ...], **more: Any) -> Sums:
        counted = functools.partial(count, num_classes=classes, **more)
        return Sums(counted, read, shape)

    read = lambda metrics: functools.partial(metrics, names=names)
    found = []
    if f1:
        found.append(made(boundary_counts, read(boundary_metrics), (classes + 1, 2)))
    if iou:
        read_iou = read(boundary_iou_metrics)
        found.append(made(boundary_iou_counts, read_iou, (classes, 2)))
    if surface:
        found.append(made(surface_counts, read(surface_metrics), (classes + 1, 5)))
    if widths:
        bands = functools.partial(trimap_metrics, widths=widths)
        shape = (len(widths), classes, classes)
        found.append(made(trimap_counts, bands, shape, widths=widths))
    return found


class Calibration(Sums):
    """Measures how far confidence and accuracy are apart (`segjax.metrics.calibration`)."""

    outputs = ("probabilities",)

    def __init__(self) -> None:
        """Begins with no image."""
        super().__init__(calibration_counts, calibration_metrics, (BINS, 3))

    def add(self, place: int, record: Record, page: Page) -> Mapping[str, float]:
        """Adds an image; see `Measure`."""
        probabilities = {"labels": page["probabilities"]}
        return super().add(place, record, probabilities)


def loss_of_image(
    loss: Callable[[Mapping[str, Any], Mapping[str, Array]], Any], num_classes: int
) -> ImageLoss:
    """Compiles, when it is called, a loss for images whose logits are known.

    Args:
      loss: of outputs and a batch; a number, or it and its parts.
      num_classes: channels of the logits, K.

    Returns:
      The loss of `logits` `[H, W, K]`, `label` and `weight` `[H, W]`.

    Raises:
      UserError: if it reads other outputs of the network than logits.
    """

    def value(logits: Array, label: Array, weight: Array) -> Array:
        batch = {"label": label[None], "weight": weight[None]}
        found = loss({"logits": logits[None]}, batch)
        return found[0] if isinstance(found, tuple) else found

    pixels = (_BLOCK, _BLOCK)
    shapes = [
        jax.ShapeDtypeStruct((*pixels, num_classes), np.float32),
        jax.ShapeDtypeStruct(pixels, np.int32),
        jax.ShapeDtypeStruct(pixels, np.float32),
    ]
    try:
        jax.eval_shape(value, *shapes)
    except Exception as error:  # whatever code from outside can raise
        raise UserError(
            "config.loss cannot be computed from the logits alone, which is all that there is "
            f"of whole images ({parts.told(error)})."
        ) from error
    return jax.jit(value)


_BLOCK = 64
"""Images are padded to multiples of it, so that there are few sizes to compile for."""


OVER_PIXELS = ("cross_entropy", "focal", "binary_cross_entropy", "sigmoid_focal")
"""Losses that are a mean or a sum over pixels, as their argument `reduction` says."""

_TILE = 1024
"""Side in pixels of the tiles of which these are computed, one after the other."""

_MOST_LOGITS = 1 << 28
"""Of an image whose loss is not made of tiles; they take 1 GB."""


class ValidationLoss:
    """Measures the loss of training on whole images, without augmentation.

    The loss of each image, a batch of one, is averaged over images, weighted by the pixels
    that count: a loss that is a mean over pixels is that over all pixels of the split.
    """

    outputs = ("logits",)

    def __init__(
        self,
        loss: ImageLoss,
        weight: Callable[[int, Record], np.ndarray | LazyPage] | None = None,
        *,
        pads: bool = True,
        reduction: str | None = None,
    ):
        """Takes the loss.

        Args:
          loss: as from `loss_of_image`.
          weight: of a record by its place, `[H, W]`, the weights of its pixels in training;
            None for 1 everywhere.
          pads: whether images may be padded with pixels of weight 0 that do not count.
          reduction: "mean" or "sum" of a loss that is that over pixels: large images are
            measured tile by tile; None for other losses.
        """
        self._loss, self._weight = loss, weight
        self._block = _BLOCK if pads else 1
        self._reduction, self._was_told = reduction, False
        self._sums = np.zeros(2)

    def add(self, place: int, record: Record, page: Page) -> Mapping[str, float]:
        """Adds an image; see `Measure`."""
        label, logits = np.asarray(record["label"]), page["logits"]
        counted, weight = label != IGNORE_LABEL, None
        if self._weight is not None:
            weight = np.asarray(self._weight(place, record))
            counted &= weight > 0
        pixels = int(counted.sum())
        if not pixels:
            return {}
        if self._reduction is None and logits.size > _MOST_LOGITS:
            self._tell(place, record, label.shape)
            self._sums += float("nan"), pixels
            return {}
        loss = 0.0
        for part in _tiles(label.shape, _TILE if self._reduction else max(label.shape)):
            here = int(counted[part].sum())
            share = 1.0 if self._reduction == "sum" else here / pixels
            if here:
                ones = np.ones(label[part].shape, np.float32)
                own = ones if weight is None else weight[part]
                loss += share * self._of(logits[part], label[part], own)
        self._sums += loss * pixels, pixels
        return {"loss": loss}

    def _of(self, logits: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
        """The loss of a tile, padded to one of a few sizes."""
        more = [(0, -side % self._block) for side in label.shape]
        logits = np.pad(logits, (*more, (0, 0)))
        label = np.pad(label.astype(np.int32), more, constant_values=IGNORE_LABEL)
        weight = np.pad(weight, more)
        return float(self._loss(*map(jnp.asarray, (logits, label, weight))))

    def _tell(self, place: int, record: Record, size: tuple[int, ...]) -> None:
        """Says once that an image is too large."""
        if not self._was_told:
            log.warning(
                "The loss is not measured: it is no mean over pixels, and the image %s of "
                "%d x %d pixels is too large for it.",
                *(record.get("name", place), *size),
            )
        self._was_told = True

    def gather(self) -> None:
        """Adds the sums of the other processes."""
        self._sums = sharding.gather(self._sums[None]).sum(0)

    def metrics(self) -> dict[str, float]:
        """The loss of all images that were added; NaN without a pixel that counts."""
        total, pixels = self._sums.tolist()
        return {"loss": total / pixels if pixels else float("nan")}


def _tiles(size: Sequence[int], side: int) -> list[tuple[slice, slice]]:
    """Cuts an image into tiles.

    Example:
      >>> len(_tiles((5, 4), 2))
      6
    """
    starts = [range(0, length, side) for length in size]
    return [
        (slice(y, y + side), slice(x, x + side)) for y, x in itertools.product(*starts)
    ]


def outputs_of(measures: Sequence[Measure], *more: str) -> tuple[str, ...]:
    """What the measures, and more, need of a predictor, `labels` first.

    Example:
      >>> outputs_of([Calibration()])
      ('labels', 'probabilities')
    """
    asked = (
        "labels",
        *(name for measure in measures for name in measure.outputs),
        *more,
    )
    return tuple(dict.fromkeys(asked))
