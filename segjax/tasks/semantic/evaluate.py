"""Measuring a network on a split: every image whole, and exactly once."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from segjax.data.intensities import RecordScales
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import ImageNormalization
from segjax.errors import UserError, suggestion
from segjax.layers.attributes import check_counts
from segjax.metrics import (
    EM_COLUMNS,
    THRESHOLDS,
    em_metrics,
    summarize,
)
from segjax.metrics.boundary import check_widths
from segjax.metrics.direction import NEITHER
from segjax.objects.separation import Separation
from segjax.predict.scaled import NormalizedImage, ScaledImage
from segjax.predict.test_time import TestTimeAugmentation
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.measures import (
    Calibration,
    Measure,
    boundary_measures,
    outputs_of,
)
from segjax.tasks.semantic.object_scores import ObjectScores, metric_names
from segjax.tasks.semantic.per_image import PerImage
from segjax.tasks.semantic.pixel_scores import no_pixels, pixel_counts, pixel_metrics
from segjax.training import sharding
from segjax.types import Record


@dataclass(frozen=True)
class Evaluation:
    """The settings of evaluation; the group `config.evaluation` of an experiment.

    Attributes:
      split: the split that is evaluated during training.
      best_metric: the metric that marks the best checkpoint: the highest value, or the
        lowest where it is an error.
      tile: output side of the tiles in pixels; None chooses one, 0 is the whole image.
      cell_class: where given, the class of cells in electron microscopy: pixel, Rand
        and warping errors are then reported, too.
      loss: whether the loss of training is reported, too, of whole images without
        augmentation.
      metrics: metrics of your own, "package.module:Name" or (name, arguments)
        (`segjax.training.outside_metrics`).
      calibration: whether the calibration errors are reported, too
        (`segjax.metrics.calibration`).
      boundary_f1: whether the boundary F1 is reported, too: that of SegNet's paper.
      boundary_iou: whether the boundary IoU is reported, too.
      surface_distance: whether the average surface distance, the Hausdorff distance and its
        95th percentile are reported, too (`segjax.metrics.surface_counts`).
      trimap_widths: widths in pixels of bands around the boundaries; mean IoU and pixel
        accuracy within each are then reported, too: DeepLab's trimap plot.
      dihedral_tta: whether evaluation and prediction average the probabilities over the
        image's flips and quarter turns, at eight times the cost.
      mc_samples: passes of a network that drops activations in evaluation, too, each with
        a fixed key of its own, whose probabilities are averaged: Bayesian SegNet, where
        config.model.sample is True.
      scales: factors by which images are resized; the probabilities of all are averaged.
      flip: whether those of the mirror image (left and right) are averaged in.
      crop: height and width in pixels of crops that slide over the image, where it is
        not taken whole.
      crop_stride: distance of neighbouring crops as a fraction of their side.
      input_size: height and width in pixels to which each image is squeezed or stretched for
        the network; its probabilities are brought back to the pixels of the image. None
        leaves images as they are.
      model_overrides: arguments of config.model that differ in evaluation and prediction, such
        as `{"backbone": {"output_stride": 8}}`; the parameters are the same.
    """

    SWITCHES: ClassVar = (
        *("loss", "calibration", "boundary_f1", "boundary_iou", "surface_distance"),
    )

    split: str = "validation"
    best_metric: str = "mean_iou"
    tile: int | None = None
    cell_class: int | None = None
    loss: bool = True
    metrics: tuple[Any, ...] = ()
    calibration: bool = False
    boundary_f1: bool = False
    boundary_iou: bool = False
    surface_distance: bool = False
    trimap_widths: tuple[float, ...] = ()
    dihedral_tta: bool = False
    mc_samples: int = 1
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crop: tuple[int, int] | None = None
    crop_stride: float = 2 / 3
    input_size: tuple[int, int] | None = None
    model_overrides: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Checks what can be checked without data."""
        for name in ("tile", "cell_class"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise ValueError(f"{name} is None or an integer, got {value!r}")
        if self.tile is not None and self.tile < 0:
            raise ValueError(
                "tile is the output side of a tile in pixels, 0 for whole images, or "
                f"None, got {self.tile}"
            )
        check_counts(mc_samples=self.mc_samples)
        try:
            check_widths(self.trimap_widths)
        except ValueError as error:
            raise ValueError(f"trimap_{error}") from error
        if not self.passes.is_one and self.tile:
            raise ValueError(
                f"tile must be None or 0, got {self.tile}, where scales, flip, crop "
                "or input_size are set: those take the image whole, or by crops"
            )
        if self.dihedral_tta and self.flip:
            raise ValueError(
                "flip must be False where dihedral_tta is True: it has flips"
            )

    @property
    def passes(self) -> TestTimeAugmentation:
        """The passes that are averaged for one image."""
        return TestTimeAugmentation(
            self.scales, self.flip, self.crop, self.crop_stride, self.input_size
        )

    def measures(self, label_spec: LabelSpec) -> list[Measure]:
        """Makes what is measured of each image besides, but loss and metrics from outside."""
        found: list[Measure] = [
            *boundary_measures(
                label_spec,
                f1=self.boundary_f1,
                iou=self.boundary_iou,
                surface=self.surface_distance,
                widths=self.trimap_widths,
            )
        ]
        return [*found, *[Calibration()] * self.calibration]

    def names(self, label_spec: LabelSpec) -> set[str]:
        """Names of the metrics of a data set, but loss, objects and those from outside."""
        classes = label_spec.num_classes
        known = set(pixel_metrics(no_pixels(label_spec), label_spec))
        if self.cell_class is not None:
            ones = np.ones((1, 1 + len(THRESHOLDS), len(EM_COLUMNS)))
            known |= _summarize_cells(ones, classes).keys()
        for measure in self.measures(label_spec):
            known |= measure.metrics().keys()
        return known

    def check(
        self,
        label_spec: LabelSpec,
        *,
        objects: bool = False,
        more: Collection[str] = (),
    ) -> set[str]:
        """Checks the class and the metric that are named.

        Args:
          label_spec: the classes of the data set.
          objects: whether objects are measured, too.
          more: names of what else is measured.

        Returns:
          The metrics that the best checkpoint can be chosen by.

        Raises:
          UserError: if the data set has no such class, or there is no such metric.
        """
        classes = label_spec.num_classes
        if self.cell_class is not None and not 0 <= self.cell_class < classes:
            raise UserError(
                f"config.evaluation.cell_class is {self.cell_class}: the classes of the "
                f"data set are 0 to {classes - 1}."
            )
        known = self.names(label_spec) | (metric_names() if objects else set())
        known |= {*more}
        known -= NEITHER
        if self.best_metric in NEITHER:
            raise UserError(
                f"config.evaluation.best_metric is {self.best_metric!r}, of which "
                f"neither more nor less is better. Known: {', '.join(sorted(known))}."
            )
        if self.best_metric not in known:
            raise UserError(
                f"config.evaluation.best_metric is {self.best_metric!r}, which is not "
                f"measured.{suggestion(self.best_metric, known)}"
            )
        return known


def _summarize_cells(sections: np.ndarray, num_classes: int) -> dict[str, float]:
    """The errors of electron microscopy; with more than two classes their pixel error,
    of cell against all others, is not that of the classes, and is `em_pixel_error`.
    """
    metrics = summarize(sections)
    if num_classes > 2:
        metrics["em_pixel_error"] = metrics.pop("pixel_error")
    return metrics


@dataclass(frozen=True)
class Report:
    """The outcome of an evaluation.

    Attributes:
      metrics: by name; NaN where a metric is undefined.
      counts: the confusion counts `[K, K]`, rows are the truth; None where classes overlap.
      calibration: the sums of `segjax.metrics.calibration_counts`, where they were wanted.
    """

    metrics: dict[str, float]
    counts: np.ndarray | None
    calibration: np.ndarray | None = None


class Pages(Protocol):
    """A predictor that can be evaluated: `segjax.predict.tiled.Predictor`, or a baseline.

    What is refined by a CRF has to give `logits` `[H, W, K]`, too.
    """

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` `[H, W]` and `probabilities` `[H, W, K]` of each image."""
        ...


def evaluate(
    predictor: Pages,
    records: Sequence[Record],
    label_spec: LabelSpec,
    *,
    split: str,
    normalization: ImageNormalization,
    cell_class: int | None = None,
    measures: Sequence[Measure] = (),
    crf: CRF | None = None,
    separation: Separation | None = None,
    per_image: PerImage | None = None,
) -> Report:
    """Predicts each image of a split by overlap-tile and compares it with its label.

    The images are dealt out to the processes; the counts of all are added before any
    ratio is taken, so the result does not depend on how many there are. Each record is
    read once; the labels wait for the predictions of their images.

    Args:
      predictor: the network.
      records: images with labels.
      label_spec: names of the classes.
      split: their name, for messages.
      normalization: how images are normalised, as in training.
      cell_class: the class of cells, where the errors of electron microscopy are
        wanted, too. Their `pixel_error` is that of the classes where there are two;
        with more, that of cell against all others is `em_pixel_error`.
      measures: what is measured besides; nothing was added to them yet.
      crf: where given, what refines each prediction.
      separation: where given, and records number their objects, how objects are found:
        F1 and the like over thresholds of IoU are then measured, too
        (`segjax.metrics.matching_metrics`).
      per_image: where given, the images of this process are added to it.

    Returns:
      The metrics and the confusion counts.

    Raises:
      UserError: if the split has no records or no labels.
    """
    if not len(records):
        raise UserError(f'The split "{split}" has no images to evaluate.')
    first = records[0]
    if "label" not in first:
        raise UserError(
            f'The split "{split}" has no labels: it can be predicted, not evaluated.'
        )
    num_classes = label_spec.num_classes
    total = no_pixels(label_spec)
    sections = np.zeros((1 + len(THRESHOLDS), len(EM_COLUMNS)))
    objects = ObjectScores(separation if "cells" in first else None)
    mine = range(sharding.process_index(), len(records), sharding.process_count())
    seen: collections.deque[tuple[int, Record]] = collections.deque()
    originals: collections.deque[np.ndarray] = collections.deque()
    scales = RecordScales(records, normalization)

    def images() -> Iterator[ScaledImage]:
        for i in mine:
            record = records[i]
            kept = record if measures else {}
            seen.append((i, {**kept, "label": np.asarray(record["label"])}))
            objects.expect(record)
            if per_image is not None:
                per_image.expect(i, record)
            if crf is not None:
                originals.append(record["image"])
            yield ScaledImage(record["image"], scales(i, record))

    more = cell_class is not None or objects.wanted
    outputs = outputs_of(measures, *["probabilities"] * more)
    predicted = outputs if crf is None else ("logits",)
    with sharding.fail_together():  # measures may be code from outside
        for number, page in enumerate(predictor.pages(images(), predicted), 1):
            place, shown = seen.popleft()
            label = shown["label"]
            if crf is not None:
                try:
                    page = crf.page(originals.popleft(), page["logits"], outputs)
                except UserError as error:
                    raise UserError(
                        f"Image {number} of {len(mine)}: {error}"
                    ) from error
            counts = pixel_counts(label, page["labels"], label_spec)
            total += counts
            found = [measure.add(place, shown, page) for measure in measures]
            own = {name: value for x in found for name, value in x.items()}
            matching = objects.add(page)
            if per_image is not None:
                per_image.add(label, page["labels"], counts, matching, own)
            if cell_class is not None:
                cells = page["probabilities"][..., cell_class]
                sections += em_metrics(cells, label, cell_class=cell_class)
    counts = sharding.gather(total[None]).sum(0)
    metrics = pixel_metrics(counts, label_spec)
    if cell_class is not None:
        everyone = sharding.gather(sections[None]).sum(0, keepdims=True)
        metrics |= _summarize_cells(everyone, num_classes)
    calibration = None
    for measure in measures:
        measure.gather()
        metrics |= measure.metrics()
        if isinstance(measure, Calibration):
            calibration = measure.total
    confusion = counts if counts.ndim == 2 else None
    return Report(metrics | objects.metrics(), confusion, calibration)
