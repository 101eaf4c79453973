"""Measuring: the half of the task that labels pixels which looks at labels."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from segjax import config as config_lib
from segjax.data.dataset import Dataset
from segjax.data.semantic.batches import train_batches
from segjax.data.semantic.weight_map import BorderWeights
from segjax.errors import UserError
from segjax.losses import LOSSES
from segjax.predict.temperature import TemperatureScaling
from segjax.tasks.semantic.baseline import evaluate_baselines, has_default_baseline
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Report, evaluate
from segjax.tasks.semantic.image_rows import measure_images
from segjax.tasks.semantic.loss import LossFromConfig
from segjax.tasks.semantic.measures import (
    OVER_PIXELS,
    ImageLoss,
    Measure,
    ValidationLoss,
    loss_of_image,
)
from segjax.tasks.semantic.object_scores import metric_names
from segjax.tasks.semantic.per_image import PerImage
from segjax.tasks.semantic.prediction import SemanticPrediction
from segjax.training.early_stopping import check_metric_names, early_stopping_of
from segjax.training.experiment import records_of
from segjax.training.layout import ONE_EACH, Spread
from segjax.training.outside_metrics import OutsideMetrics, also_measured
from segjax.training.step import Loss
from segjax.types import Record
from segjax.viz.report_values import MeasuredImages

log = logging.getLogger("segjax")


class SemanticMeasurement(SemanticPrediction):
    """A network that labels pixels, and how it is measured.

    Attributes:
      training: whether it is trained, too.
    """

    training = False
    _image_loss: ImageLoss | None = None

    @functools.cached_property
    def loss(self) -> LossFromConfig:
        """What is minimised."""
        self.head.check_loss(self.config.loss.get("name"))
        return LossFromConfig(self.config.loss, self.head.num_logits)

    def _measures_objects(self, dataset: Dataset, split: str) -> bool:
        """Whether objects are wanted, and the data set numbers them."""
        records = dataset.splits.get(split, ())
        return (
            self.separation is not None and len(records) > 0 and "cells" in records[0]
        )

    def _check_metric_names(self) -> None:
        """Checks the metrics that the config names, as far as that goes without data."""
        if self.evaluation.metrics:  # of code from outside, which is not imported yet
            return
        count, kind = self.head.labels
        spec = kind(tuple(map(str, range(count))), ((0, 0, 0),) * count)
        known = self.evaluation.names(spec) | metric_names() | {"loss"}
        check_metric_names(self.config, self.evaluation.best_metric, known)

    def _check_evaluation(self, dataset: Dataset) -> None:
        """Checks what `config.evaluation` names; code from outside is imported in training."""
        more: tuple[str, ...] = ()
        if self.evaluation.loss and self.training:
            try:
                self._loss_of_logits(self.loss.on_shapes)
            except UserError as error:
                log.warning("The loss is not measured: %s", error)
                self.evaluation = dataclasses.replace(self.evaluation, loss=False)
        more += ("loss",) * self.evaluation.loss
        if self.evaluation.metrics:
            if not self.training:  # of a run, in which it was checked
                return
            more += self.outside_metrics(dataset).names
        objects = self._measures_objects(dataset, self.evaluation.split)
        known = self.evaluation.check(dataset.label_spec, objects=objects, more=more)
        if self.training:
            stopping = early_stopping_of(self.config, self.evaluation.best_metric)
            if stopping is not None:
                stopping.require_metric(known)

    def records(self, dataset: Dataset, split: str) -> Sequence[Record]:
        """The records of a split.

        Raises:
          UserError: if there is no such split, or it is empty; those that exist
            are named.
        """
        fraction, remedy = f"{split}_fraction", ""
        if fraction in self.config.data:
            remedy = (
                f" Give --config.data.{fraction} above 0, or sort the files into train/ "
                f"and {split}/."
            )
        return records_of(dataset, split, remedy)

    def evaluate(
        self,
        variables: Mapping[str, Any],
        dataset: Dataset,
        split: str | None = None,
        *,
        tile: int | None = None,
        crf: CRF | None = None,
        per_image: PerImage | None = None,
    ) -> Report:
        """Measures the network on a split.

        Args:
          variables: collections of the model.
          dataset: its data.
          split: its name; None for that of the config.
          tile: see `predictor`; None for that of the config.
          crf: where given, what refines the predictions.
          per_image: a table that takes a row of each image, if one is wanted.

        Returns:
          The metrics and the confusion counts.

        Raises:
          UserError: if there is no such split, or it has no labels.
        """
        split = self.evaluation.split if split is None else split
        tile = self.evaluation.tile if tile is None else tile
        return evaluate(
            self.predictor(variables, tile=tile),
            self.records(dataset, split),
            dataset.label_spec,
            split=split,
            cell_class=self.evaluation.cell_class,
            measures=self.measures(dataset, split),
            normalization=self.normalization,
            crf=crf,
            separation=self.separation,
            per_image=per_image,
        )

    def predictor(
        self,
        variables: Mapping[str, Any],
        *,
        tile: int | None = None,
        spread: Spread = ONE_EACH,
    ) -> Any:
        """Makes what predicts images of any size, with the temperature of the config.

        Args:
          variables: collections of the model.
          tile: output side of a tile in pixels; None chooses one, 0 takes images whole.
          spread: over the devices of this process.

        Returns:
          The predictor, a `segjax.predict.temperature.Pages`; it normalises nothing.

        Raises:
          UserError: if tiles are asked for where they would change the result, or the devices
            cannot be spread over so.
        """
        found = super().predictor(variables, tile=tile, spread=spread)
        return self.calibration(found)

    @functools.cached_property
    def calibration(self) -> TemperatureScaling:
        """How sure predictions are; where the config has no such group, as the network is."""
        group = self.config.get("calibration", {})
        return config_lib.call(TemperatureScaling, group, "config.calibration")

    def outside_metrics(self, dataset: Dataset) -> OutsideMetrics:
        """Imports the metrics of `config.evaluation.metrics`.

        Raises:
          UserError: if one cannot be used, or has the name of one of segjax.
        """
        spec = dataset.label_spec
        outside = OutsideMetrics(self.evaluation.metrics, spec.names)
        taken = self.evaluation.names(spec) | {"loss"}
        outside.check_names(taken | (metric_names() if self.separation else set()))
        return outside

    def measures(self, dataset: Dataset, split: str) -> list[Measure]:
        """Makes all that is measured on the images of a split, but confusion and objects."""
        found = self.evaluation.measures(dataset.label_spec)
        if self.evaluation.metrics:
            found.append(self.outside_metrics(dataset))
        value = self._loss_of_image(dataset) if self.evaluation.loss else None
        if value is not None:
            group, reduction = self.config.loss, None
            if group.name in OVER_PIXELS:
                reduction = config_lib.argument(LOSSES[group.name], group, "reduction")
            found.append(
                ValidationLoss(
                    value,
                    self._border_weights(split),
                    pads=group.name in LOSSES,
                    reduction=reduction,
                )
            )
        return found

    def _loss_of_image(self, dataset: Dataset) -> ImageLoss | None:
        """The loss of training of one image; None where it cannot be had."""
        if self._image_loss is None:
            try:
                if not self.loss.is_complete:
                    records = self.records(dataset, "train")
                    self.loss.fit_class_weights(records, dataset.label_spec)
                self._image_loss = self._loss_of_logits(self.loss)
            except UserError as error:
                log.info("The loss is not measured: %s", error)
        return self._image_loss

    def _loss_of_logits(self, loss: Loss) -> ImageLoss:
        """A loss of the logits that a predictor gives, which may be more than the network's."""
        collapse = self.head.collapse
        return loss_of_image(
            lambda outputs, batch: loss({"logits": collapse(outputs["logits"])}, batch),
            self.num_classes,
        )

    def _border_weights(self, split: str) -> BorderWeights | None:
        """The weights of pixels in training, by the place of a record in a split."""
        pipeline = self.config.pipeline
        group = config_lib.argument(train_batches, pipeline, "border_weight")
        if group is None:
            return None
        return self._weights.setdefault(split, BorderWeights(**group))

    @functools.cached_property
    def _weights(self) -> dict[str, BorderWeights]:
        """The maps that were computed, by the name of the split."""
        return {}

    def measure_also(self, names: Sequence[str]) -> None:
        """Has `evaluate` measure more (`segjax.training.outside_metrics.also_measured`).

        Raises:
          UserError: if a name is none, or is for classes that exclude each other.
        """
        evaluation = also_measured(self.evaluation, names)
        self.head.check_wishes(self.config, evaluation)
        self.evaluation = evaluation

    def per_image(self, dataset: Dataset, split: str) -> PerImage:
        """Makes the table of single images that `evaluate` fills."""
        objects = self._measures_objects(dataset, split)
        records = self.records(dataset, split)
        return PerImage(records, dataset.label_spec, objects=objects)

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures Otsu's threshold, a watershed, or the commonest class at each place."""
        self.records(dataset, split)
        if self.head.overlaps:
            raise UserError("No baseline is known for classes that overlap.")
        return evaluate_baselines(
            dataset,
            split,
            self.evaluation,
            normalization=self.normalization,
            objects=self._measures_objects(dataset, split),
        )

    def has_default_baseline(self, dataset: Dataset, split: str) -> bool:
        """Whether cells lie on a background in grey images."""
        objects = self._measures_objects(dataset, split)
        return has_default_baseline(dataset, split, objects=objects)

    def image_rows(
        self,
        variables: Mapping[str, Any],
        dataset: Dataset,
        split: str,
        places: Sequence[int],
        *,
        tile: int | None = None,
        with_panels: int,
    ) -> MeasuredImages:
        """Measures images one by one (`segjax.tasks.semantic.image_rows`).

        Args:
          variables: collections of the trained model.
          dataset: its data.
          split: of the images.
          places: theirs in the split.
          tile: see `predictor`; None for that of the config.
          with_panels: how many of them, the worst, keep their pictures.

        Returns:
          The images, the worst first.
        """
        tile = self.evaluation.tile if tile is None else tile
        return measure_images(
            self.predictor(variables, tile=tile),
            dataset.splits[split],
            places,
            dataset.label_spec,
            normalization=self.normalization,
            with_panels=with_panels,
        )
