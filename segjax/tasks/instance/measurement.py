"""Measuring: the half of the task that finds objects which looks at labels."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from segjax import config as config_lib
from segjax.data.dataset import Dataset, LazyRecords
from segjax.data.instance.batches import instance_batches
from segjax.data.instance_spec import InstanceSpec, KeypointSpec
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.instance.baseline import evaluate_watershed
from segjax.tasks.instance.evaluate import (
    InstanceMetrics,
    InstanceReport,
    evaluate_instances,
    predictions,
)
from segjax.tasks.instance.image_rows import measure_images
from segjax.tasks.instance.loss import InstanceLossFromConfig
from segjax.tasks.instance.per_image import InstancesPerImage
from segjax.tasks.instance.prediction import InstancePrediction
from segjax.tasks.instance.validation_loss import ImageLoss, validation_loss
from segjax.training import sharding
from segjax.training.early_stopping import check_metric_names
from segjax.training.experiment import records_of
from segjax.training.leaves import whole_value
from segjax.training.outside_metrics import OutsideMetrics, also_measured
from segjax.training.step import Batch, Metrics, changing, streams
from segjax.types import Array, Record
from segjax.types import Outputs as NetworkOutputs
from segjax.viz.report_values import MeasuredImages

log = logging.getLogger("segjax")

OBJECTS = ("boxes", "classes", "crowd", "masks", "keypoints")
"""Keys of a batch that describe its objects."""


class InstanceMeasurement(InstancePrediction):
    """A network that finds objects, and how it is measured."""

    @functools.cached_property
    def loss(self) -> InstanceLossFromConfig:
        """What is minimised."""
        return InstanceLossFromConfig(self.config.loss)

    def records(self, dataset: Dataset, split: str) -> Sequence[Record]:
        """The records of a split.

        Raises:
          UserError: if there is no such split, or it is empty; those that exist
            are named.
        """
        return records_of(dataset, split)

    def evaluate(
        self,
        variables: Mapping[str, Any],
        dataset: Dataset,
        split: str | None = None,
        *,
        tile: int | None = None,
        crf: Any = None,
        per_image: InstancesPerImage | None = None,
    ) -> InstanceReport:
        """Measures the network on a split.

        Args:
          variables: collections of the model.
          dataset: its data.
          split: its name; None for that of the config.
          tile: None or 0: objects are found in whole images.
          crf: None; it is none of the capabilities.
          per_image: a table that takes a row of each image, if one is wanted.

        Returns:
          The metrics.

        Raises:
          UserError: if there is no such split, it has no objects, or tiles are wanted.
        """
        assert crf is None  # it is none of the capabilities
        if tile:
            raise UserError(
                f"The tile is {tile}, but objects are found in whole images: use 0."
            )
        split = self.evaluation.split if split is None else split
        outside = self._outside_metrics(dataset)
        report = evaluate_instances(
            self.detector(variables),
            self.records(dataset, split),
            InstanceMetrics(self.evaluation, self.model, dataset, outside, per_image),
            split=split,
            batch_size=self.detector_batch_size,
            buckets=self.evaluated_buckets,
            resize=self.resize,
            mask_threshold=self.evaluation.mask_threshold,
        )
        if self.evaluation.loss:
            report.metrics.update(self._validation_loss(variables, dataset, split))
        return report

    def _check_metric_names(self) -> None:
        """Checks the metrics that the config names, as far as that goes without data."""
        if self.evaluation.metrics:  # of code from outside, which is not imported yet
            return
        points = tuple(map(str, range(self.model.keypoints or 0)))
        any_data = Dataset(
            "any",
            LabelSpec(("background", "0"), ((0, 0, 0),) * 2),
            channels=3,
            splits={},
            instances=InstanceSpec((1,), KeypointSpec(points) if points else None),
        )
        known = {*InstanceMetrics(self.evaluation, self.model, any_data).metrics()}
        check_metric_names(self.config, self.evaluation.best_metric, known | {"loss"})

    def _outside_metrics(self, dataset: Dataset) -> OutsideMetrics | None:
        """The metrics of `config.evaluation.metrics`, if there are any."""
        if not self.evaluation.metrics:
            return None
        names, wanted = dataset.label_spec.names[1:], self.evaluation.metrics
        outside = OutsideMetrics(wanted, names, has_probabilities=False)
        self.evaluation.check_outside(self.model, dataset, outside)
        return outside

    def _validation_loss(
        self, variables: Mapping[str, Any], dataset: Dataset, split: str
    ) -> dict[str, float]:
        """The loss of a split, and its parts; none where its code may not be imported."""
        try:
            assert self.loss
        except UserError as error:
            log.info("The loss is not measured: %s", error)
            return {}
        devices = sharding.Devices.of_this_process()
        local = devices.put_replicated_here(jax.tree.map(whole_value, variables))
        pipeline, spec = self.config.pipeline, dataset.instances
        points = spec.keypoints if spec else None
        return validation_loss(
            self._image_loss,
            local,
            self.records(dataset, split),
            buckets=self.evaluated_buckets,
            resize=self.resize,
            max_objects=pipeline.max_objects,
            mask_size=config_lib.argument(instance_batches, pipeline, "mask_size"),
            keypoint_swap=points.swap if points else None,
        )

    @functools.cached_property
    def _image_loss(self) -> ImageLoss:
        """The loss of a batch that nothing is learned from; one function, compiled once."""

        def measured(variables: Mapping[str, Any], batch: Batch, key: Array) -> Metrics:
            outputs, _ = forward_instances(self.model, variables, batch, key)
            found = self.loss(outputs, batch)
            value, parts = found if isinstance(found, tuple) else (found, {})
            return {"loss": value, **parts}

        return jax.jit(measured)

    def measure_also(self, names: Sequence[str]) -> None:
        """Has `evaluate` measure more (`segjax.training.outside_metrics.also_measured`)."""
        self.evaluation = also_measured(self.evaluation, names)

    def per_image(self, dataset: Dataset, split: str) -> InstancesPerImage:
        """Makes the table of single images that `evaluate` fills."""
        records = self.records(dataset, split)
        return InstancesPerImage(records, dataset, self.evaluation.keep_score)

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures Otsu's threshold and a watershed."""
        most = self.evaluation.max_detections
        values = evaluate_watershed(dataset, split, max_detections=most)
        return {f"watershed/{metric}": value for metric, value in values.items()}

    def has_default_baseline(self, dataset: Dataset, split: str) -> bool:
        """False: a watershed is measured where the user asks for it."""
        del dataset, split
        return False

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
        """Measures images one by one (`segjax.tasks.instance.image_rows`).

        Args:
          variables: collections of the trained model.
          dataset: its data.
          split: of the images.
          places: theirs in the split.
          tile: None or 0: objects are found in whole images.
          with_panels: how many of them, the worst, keep their pictures.

        Returns:
          The images, the worst first.
        """
        assert not tile  # `evaluate` refused it
        records = LazyRecords(
            lambda i: dataset.splits[split][places[i]], range(len(places))
        )
        found = predictions(
            self.detector(variables),
            records,
            batch_size=self.detector_batch_size,
            buckets=self.evaluated_buckets,
            resize=self.resize,
            mask_threshold=self.evaluation.mask_threshold,
        )
        return measure_images(
            ((records[i], objects) for i, objects in found),
            dataset,
            keep_score=self.evaluation.keep_score,
            with_panels=with_panels,
        )


def forward_instances(
    model: nn.Module, variables: Mapping[str, Any], batch: Batch, key: Array
) -> tuple[NetworkOutputs, Any]:
    """The forward pass of a network that is given the objects in training."""
    return model.apply(
        variables,
        batch["image"],
        batch["sizes"],
        train=True,
        targets={name: batch[name] for name in OBJECTS if name in batch},
        rngs=streams("sampling", key),
        mutable=changing(variables),
    )
