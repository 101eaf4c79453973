"""Experiments with objects: boxes, masks and keypoints instead of labels of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data import UNLABELED
from segjax.data.augment.views import check as check_augment
from segjax.data.dataset import Dataset
from segjax.data.instance.batches import instance_batches, schedule_of
from segjax.data.semantic.batches import Batches, record_names
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.tasks.instance.evaluate import (
    InstanceReport,
    predictions,
)
from segjax.tasks.instance.measurement import InstanceMeasurement, forward_instances
from segjax.tasks.instance.pictures import write_instances
from segjax.training import sharding
from segjax.training.early_stopping import early_stopping_of
from segjax.training.experiment import check_optimizer, open_data
from segjax.training.optimization import Optimization
from segjax.training.step import init_variables

GIVEN_TO_PIPELINE = (
    "records",
    "seed",
    "batch_size",
    "keypoint_swap",
    "process_index",
    "process_count",
    "start_step",
)
"""Arguments of `instance_batches` that are not for the config's group `pipeline`."""

_NAMED = 10
"""Of classes in an error."""


class InstanceTask(InstanceMeasurement, Optimization):
    """An experiment with objects, built from its config."""

    capabilities = frozenset({"instances", "per_image"})
    answers = "finds objects"
    headline = (
        *("box_AP", "mask_AP", "mask_AP50", "mask_AP75", "keypoint_AP50", "f1@0.5"),
    )
    pictures = ()
    forward = staticmethod(forward_instances)

    def __init__(self, config: ml_collections.ConfigDict, *, training: bool = True):
        """Builds the network, and for training loss and optimizer.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        super().__init__(config)
        self.training = training
        config_lib.check_arguments(
            instance_batches, config.pipeline, "config.pipeline", GIVEN_TO_PIPELINE
        )
        self.input_size = self.output_size = self.buckets[0]
        if training:  # built now, so that what is wrong is found now
            assert self.loss
            assert callable(self.step)
            self._check_metric_names()
            check_augment(
                config_lib.argument(instance_batches, config.pipeline, "augment")
            )
        self._points = self.model.keypoints

    def open_dataset(self, cache_dir: str | None, data_root: str | None) -> Dataset:
        """Opens the data set, preparing it where that has not been done.

        Raises:
          UserError: if files are missing or wrong, or the network does not fit them.
        """
        if self.config.data.get(UNLABELED) is not None:
            raise UserError(
                f"config.data.{UNLABELED} is for networks that label pixels; leave it out."
            )
        dataset = open_data(self.config, cache_dir, data_root)
        if dataset.instances is None:
            raise UserError(
                f'The data set "{dataset.name}" has labels of pixels, no objects: use '
                "another one, or leave config.task out."
            )
        classes = self.config.model.num_classes
        if classes != dataset.label_spec.num_classes:
            names = dataset.label_spec.names
            more = ", ..." if len(names) > _NAMED else ""
            raise UserError(
                f"config.model.num_classes is {classes}, but the data set "
                f'"{dataset.name}" has {len(names)} with the background '
                f"({', '.join(names[:_NAMED])}{more}): use that number."
            )
        points = dataset.instances.keypoints
        self._points = len(points.names) if points else None
        if self.model.keypoints not in (None, self._points):
            raise UserError(
                f"config.model.roi_heads.keypoints is {self.model.keypoints}, but objects of "
                f'"{dataset.name}" have {self._points or "none"}: use that number.'
            )
        if self.training or not self.evaluation.metrics:
            outside = self._outside_metrics(dataset)
            known = self.evaluation.check(self.model, dataset, outside)
        if self.training:
            stopping = early_stopping_of(self.config, self.evaluation.best_metric)
            if stopping is not None:
                stopping.require_metric(known)
            self.check_own_step(dataset)
            init = lambda: self.init_state(dataset.channels)
            check_optimizer(self.config, self.optimizer, init)
            self.batches(dataset, 0).close()
        return dataset

    def export(
        self, dataset: Dataset, split: str, folder: str | Path, **_: Any
    ) -> list[Path]:
        """Says that objects are not exported.

        Raises:
          UserError: always.
        """
        raise UserError(
            f'"{dataset.name}" holds objects, which are not exported to {folder}: '
            f"--write_images is for labels of pixels. Leave it out; {split} is prepared."
        )

    def learn(self, dataset: Dataset) -> dict[str, Any]:
        """The normalisation is that of the weights and learns nothing."""
        return {}

    def recall(self, learned: Mapping[str, Any]) -> None:
        """There is nothing to recall."""

    def prepare(self, dataset: Dataset) -> None:
        """The loss has nothing to count."""

    def batches(self, dataset: Dataset, start_step: int) -> Batches:
        """Opens this process's part of the training batches, from a step on."""
        points = dataset.instances.keypoints if dataset.instances else None
        return config_lib.call(
            instance_batches,
            self.config.pipeline,
            "config.pipeline",
            records=dataset.splits["train"],
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            keypoint_swap=points.swap if points else None,
            process_index=sharding.process_index(),
            process_count=sharding.process_count(),
            start_step=start_step,
        )

    def records_of_step(self, dataset: Dataset, step: int) -> list[str]:
        """Names the records that the step from `step` to `step + 1` is made of."""
        records = dataset.splits["train"]
        schedule = schedule_of(
            records,
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            buckets=self.buckets,
            resize=self.resize,
        )
        return record_names(records, schedule.ids(step).tolist())

    def init_variables(self, channels: int) -> Mapping[str, Any]:
        """Makes the collections of the untrained network; traceable."""
        shape = (1, *self.input_size, channels)
        return init_variables(self.model, shape, self.config.seed)

    def abstract_batch(self, channels: int, size: int) -> dict[str, Any]:
        """Shapes and dtypes of a batch of a number of examples, in the first bucket."""
        pipeline = self.config.pipeline
        objects = (size, pipeline.max_objects)
        side = config_lib.argument(instance_batches, pipeline, "mask_size")
        shapes = {
            "image": ((size, *self.input_size, channels), np.float32),
            "sizes": ((size, 2), np.int32),
            "boxes": ((*objects, 4), np.float32),
            "classes": (objects, np.int32),
            "crowd": (objects, np.bool_),
            "masks": ((*objects, side, side), np.uint8),
            "num_dropped": ((size,), np.int32),
            "record": ((size,), np.int32),
        }
        if self._points:
            shapes["keypoints"] = ((*objects, self._points, 3), np.float32)
        return {key: jax.ShapeDtypeStruct(*x) for key, x in shapes.items()}

    def plot(
        self,
        outputs: Outputs,
        examples: Mapping[int, str],
        variables: Mapping[str, Any],
        dataset: Dataset,
        report: InstanceReport,
    ) -> None:
        """Plots objects beside those that were found, of some images.

        Args:
          outputs: where to.
          examples: places of the records, and the names of their pictures.
          variables: collections of the trained model.
          dataset: its data.
          report: of the last evaluation.
        """
        split = dataset.splits[self.evaluation.split]
        records = [split[i] for i in examples]
        found = predictions(
            self.detector(variables),
            records,
            batch_size=self.detector_batch_size,
            buckets=self.evaluated_buckets,
            resize=self.resize,
            mask_threshold=self.evaluation.mask_threshold,
        )
        write_instances(outputs, examples, found, records, dataset)
