"""Measuring a network of objects on a split: every image whole, and exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.instance.batches import evaluation_batches, evaluation_order
from segjax.errors import UserError, suggestion
from segjax.layers.attributes import check_counts
from segjax.metrics.average_precision import AveragePrecision
from segjax.metrics.matching_f1 import (
    THRESHOLDS,
    matching_counts,
    matching_metrics,
)
from segjax.ops.regions.masks import paste_masks
from segjax.tasks.instance.masks import instance_masks, label_image
from segjax.training import sharding
from segjax.training.outside_metrics import OutsideMetrics
from segjax.types import Array, Record

PREFIXES = {
    "boxes": "box",
    "masks": "mask",
    "boundaries": "boundary",
    "keypoints": "keypoint",
}
"""The kinds that are compared, and how their metrics begin: "box_AP", "mask_AP50", ..."""

Detect = Callable[[Mapping[str, np.ndarray]], Mapping[str, Array]]
"""From a batch with `image` and `sizes` to what `MaskRCNN` answers."""


@dataclass(frozen=True)
class InstanceEvaluation:
    """The settings of evaluation of an experiment with objects.

    Attributes:
      split: the split that is evaluated during training.
      best_metric: the metric that marks the best checkpoint: the highest value.
      batch_size: images that are predicted at a time, on all devices of a process.
      buckets: sizes that images are padded to; None: those of training. With others a
        network is trained on parts of images (`resize="keep"`) and measured on whole ones.
      loss: whether the loss of training is reported, too, of whole images without
        augmentation. It takes a second pass, and a program of its own.
      metrics: metrics of your own, "package.module:Name" or (name, arguments); they are
        given the numbers of the objects of each image (`segjax.training.outside_metrics`).
      boundaries: whether the average precision of outlines is measured, too.
      matching_f1: whether masks are also scored as a label image: the F1 of matched
        objects over thresholds of IoU, as for nuclei.
      keep_score: of the objects in that label image, as in prediction.
      max_detections: detections of an image and class that count for the average
        precision; None is COCO's number, 100, of keypoints 20.
      mask_threshold: least probability of a pixel in a mask.
    """

    SWITCHES: ClassVar = ("loss", "boundaries", "matching_f1")

    split: str = "validation"
    best_metric: str = "mask_AP"
    batch_size: int = 4
    buckets: tuple[tuple[int, int], ...] | None = None
    loss: bool = False
    metrics: tuple[Any, ...] = ()
    boundaries: bool = False
    matching_f1: bool = False
    keep_score: float = 0.5
    max_detections: int | None = None
    mask_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Checks what can be checked without data."""
        check_counts(batch_size=self.batch_size)
        if self.max_detections is not None:
            check_counts(max_detections=self.max_detections)
        for name in ("mask_threshold", "keep_score"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name} is between 0 and 1, got {value!r}")

    def kinds(self, model: Any, dataset: Dataset) -> tuple[str, ...]:
        """The kinds that are compared: those that the network answers and the data set has."""
        spec = dataset.instances
        points = bool(model.keypoints) and spec is not None and spec.keypoints
        kinds = ["boxes", *["masks"] * model.masks]
        kinds += ["boundaries"] * (model.masks and self.boundaries)
        return (*kinds, *["keypoints"] * bool(points))

    def check(
        self, model: Any, dataset: Dataset, outside: OutsideMetrics | None = None
    ) -> set[str]:
        """Checks the metric that is named.

        Args:
          model: the network.
          dataset: its data.
          outside: the metrics from outside.

        Returns:
          All metrics.

        Raises:
          UserError: if it is not measured.
        """
        known = set(InstanceMetrics(self, model, dataset).metrics())
        known |= set(outside.names) if outside is not None else set()
        known |= {"loss"} if self.loss else set()
        if self.best_metric not in known:
            raise UserError(
                f"config.evaluation.best_metric is {self.best_metric!r}, which is not "
                f"measured.{suggestion(self.best_metric, known)}"
            )
        return known

    def check_outside(
        self, model: Any, dataset: Dataset, outside: OutsideMetrics
    ) -> None:
        """Checks that metrics from outside can be measured beside those of segjax.

        Args:
          model: the network.
          dataset: its data.
          outside: the metrics from outside.

        Raises:
          UserError: if the network has no masks, or a name is one of segjax.
        """
        if not model.masks:
            raise UserError(
                "config.evaluation.metrics are given the masks of objects, which this "
                "network has not: leave them out, or give one with config.model.roi_heads.masks."
            )
        outside.check_names({*InstanceMetrics(self, model, dataset).metrics(), "loss"})


def limits(most: int | None, kind: str) -> tuple[int, ...]:
    """Numbers of detections that `AveragePrecision` distinguishes, the largest last.

    Example:
      >>> limits(400, "masks"), limits(5, "boxes"), limits(30, "keypoints")
      ((1, 10, 400), (1, 5), (30,))
    """
    if most is None:
        return ()
    lower = () if kind == "keypoints" else (1, 10)
    return (*(limit for limit in lower if limit < most), most)


@dataclass(frozen=True)
class InstanceReport:
    """The outcome of an evaluation.

    Attributes:
      metrics: by name; NaN where a metric is undefined.
    """

    metrics: dict[str, float]


class InstanceMetrics:
    """The metrics of the images so far."""

    def __init__(
        self,
        evaluation: InstanceEvaluation,
        model: Any,
        dataset: Dataset,
        outside: OutsideMetrics | None = None,
        table: Any = None,
    ):
        """Begins with no image.

        Args:
          evaluation: what is measured.
          model: the network.
          dataset: its data.
          outside: metrics from outside, if there are any.
          table: takes a row of each image, if it is wanted
            (`segjax.tasks.instance.per_image`).
        """
        names = dataset.label_spec.names[1:]
        spec = dataset.instances
        sigmas = spec.keypoints.sigmas if spec and spec.keypoints else ()
        self.precisions = {
            kind: AveragePrecision(
                names, kind, limits(evaluation.max_detections, kind), sigmas
            )
            for kind in evaluation.kinds(model, dataset)
        }
        self.matching = evaluation.matching_f1 and model.masks
        self.keep_score = evaluation.keep_score
        self.places: list[int] = []
        self.counts: list[np.ndarray] = []
        self.outside, self.table = outside, table

    def add(self, place: int, record: Record, found: Mapping[str, np.ndarray]) -> None:
        """Adds an image.

        Args:
          place: of the record in the split.
          record: with its objects.
          found: as from `to_image_coordinates`.
        """
        self.places.append(place)
        for precision in self.precisions.values():
            precision.add(record, found)
        if self.matching:
            self.counts.append(matching_counts(*self._label_images(record, found)))
        own: Mapping[str, float] = {}
        if self.outside is not None:
            truth, given = self._label_images(record, found)
            shown = {"name": record["name"], "image": record["image"], "label": truth}
            own = self.outside.add(place, shown, {"labels": given})
        if self.table is not None:
            self.table.add(place, record, found, own)

    def _label_images(
        self, record: Record, found: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the objects of an image, true ones and those that were kept."""
        size = record["image"].shape[:2]
        good = found["masks"][found["scores"] >= self.keep_score]
        return label_image(instance_masks(record), size), label_image(good, size)

    def gather(self, order: Sequence[int]) -> None:
        """Adds the images of the other processes; all of them call it.

        Args:
          order: places of all images, in the order in which one process would add them.
        """
        for precision in self.precisions.values():
            precision.gather(sharding.gather, self.places, order)
        if self.matching:
            mine = np.reshape(self.counts, (-1, len(THRESHOLDS), 4))
            places = sharding.gather(np.array(self.places, np.int64)).tolist()
            everyone = dict(zip(places, sharding.gather(mine), strict=True))
            self.counts = [everyone[place] for place in order]
        if self.outside is not None:
            self.outside.gather()

    def metrics(self) -> dict[str, float]:
        """The metrics of all images that were added."""
        metrics: dict[str, float] = {}
        for kind, precision in self.precisions.items():
            scores, prefix = precision.result(), PREFIXES[kind]
            metrics |= {f"{prefix}_{k}": v for k, v in scores.stats.items()}
            for name, values in scores.per_class.items():
                metrics[f"{prefix}_AP/{name}"] = values["AP"]
        if self.matching:
            shape = (-1, len(THRESHOLDS), 4)
            metrics |= matching_metrics(np.reshape(self.counts, shape))
        return metrics | (self.outside.metrics() if self.outside else {})


def evaluate_instances(
    detect: Detect,
    records: Sequence[Record],
    sums: InstanceMetrics,
    *,
    split: str,
    batch_size: int,
    buckets: Sequence[tuple[int, int]],
    resize: str,
    mask_threshold: float = 0.5,
) -> InstanceReport:
    """Predicts each image of a split and compares the objects.

    The images are dealt out to the processes, and what each of them saw is put into the order
    of one process, so the metrics are those of one.

    Args:
      detect: the network.
      records: images with objects.
      sums: what is measured; nothing was added yet.
      split: their name, for messages.
      batch_size: images that are predicted at a time.
      buckets: sizes that images are padded to.
      resize: how they meet their bucket.
      mask_threshold: least probability of a pixel in a mask.

    Returns:
      The metrics.

    Raises:
      UserError: if the split has no records or no objects.
    """
    if not len(records):
        raise UserError(f'The split "{split}" has no images to evaluate.')
    if "boxes" not in records[0]:
        raise UserError(
            f'The split "{split}" has no objects: it can be predicted, not evaluated.'
        )
    index, count = sharding.process_index(), sharding.process_count()
    with sharding.fail_together():  # metrics may be code from outside
        for i, found in predictions(
            detect,
            records,
            batch_size=batch_size,
            buckets=buckets,
            resize=resize,
            mask_threshold=mask_threshold,
            part=(index, count),
        ):
            sums.add(i, records[i], found)
    if count > 1:
        sums.gather(evaluation_order(records, buckets=buckets, resize=resize))
    return InstanceReport(sums.metrics())


def predictions(
    detect: Detect,
    records: Sequence[Record],
    *,
    batch_size: int,
    buckets: Sequence[tuple[int, int]],
    resize: str,
    mask_threshold: float = 0.5,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields the number of each record, and the objects found, as `to_image_coordinates` gives them.

    Args:
      detect: the network.
      records: images.
      batch_size: images that are predicted at a time.
      buckets: sizes that images are padded to.
      resize: how they meet their bucket.
      mask_threshold: least probability of a pixel in a mask.
      part: which of how many parts of the batches; by default all.
    """
    for batch in evaluation_batches(
        records, batch_size=batch_size, buckets=buckets, resize=resize, part=part
    ):
        outputs = jax.device_get(detect(batch))
        for row, i in enumerate(batch["record"].tolist()):
            if batch["valid"][row]:
                one = {name: values[row] for name, values in outputs.items()}
                height, width = batch["record_sizes"][row].tolist()
                ratios = batch["ratios"][row]
                yield (
                    i,
                    to_image_coordinates(one, ratios, (height, width), mask_threshold),
                )


def to_image_coordinates(
    outputs: Mapping[str, np.ndarray],
    ratios: np.ndarray,
    size: tuple[int, int],
    mask_threshold: float = 0.5,
) -> dict[str, np.ndarray]:
    """Brings what was found in one image to the pixels of its record.

    Args:
      outputs: of the network, of one image.
      ratios: pixels of the record for one of the network, along y and x, `[2]`.
      size: height and width of the record.
      mask_threshold: least probability of a pixel in a mask.

    Returns:
      `boxes` `[D, 4]`, `scores` and `classes` `[D]`, and where there are any `masks`
      bool `[D, H, W]` and `keypoints` `[D, P, 3]`, (y, x, score); best first.
    """
    real = outputs["valid"]
    boxes, scale = outputs["boxes"][real], np.tile(ratios, 2)[None]
    limit = np.tile(np.array(size, np.float32), 2)[None]
    found = {
        "boxes": np.clip(boxes * scale, 0, limit),
        "scores": outputs["scores"][real],
        "classes": outputs["classes"][real],
    }
    if "masks" in outputs:
        found["masks"] = paste_masks(
            outputs["masks"][real], found["boxes"], size, threshold=mask_threshold
        )
    if "keypoints" in outputs:
        scales = np.array([*ratios, 1], np.float32)
        found["keypoints"] = outputs["keypoints"][real] * scales[None, None]
    return found
