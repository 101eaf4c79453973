"""Experiments with objects: boxes, masks and keypoints instead of labels of pixels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax

from segjax import config as config_lib
from segjax.data import channels_of
from segjax.data.augment.views import check as check_augment
from segjax.data.dataset import Dataset, LazyRecords
from segjax.data.instance.batches import instance_batches, schedule_of
from segjax.data.semantic.batches import Batches, record_names
from segjax.errors import UserError
from segjax.layers.blocks import blocks_of
from segjax.output.folder import Outputs
from segjax.tasks.instance.baseline import evaluate_watershed
from segjax.tasks.instance.evaluate import (
    InstanceMetrics,
    InstanceReport,
    evaluate_instances,
    predictions,
)
from segjax.tasks.instance.image_rows import measure_images
from segjax.tasks.instance.loss import InstanceLossFromConfig
from segjax.tasks.instance.pictures import write_instances
from segjax.tasks.instance.prediction import InstancePrediction
from segjax.training import sharding
from segjax.training.experiment import (
    check_optimizer,
    open_data,
    optimizer_from,
    records_of,
    schedule_from,
)
from segjax.training.state import TrainState
from segjax.training.step import (
    Batch,
    Metrics,
    init_variables,
    make_train_step,
    state_of,
)
from segjax.types import Array, Record
from segjax.types import Outputs as NetworkOutputs
from segjax.viz.report_values import MeasuredImages

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

OBJECTS = ("boxes", "classes", "crowd", "masks", "keypoints")
"""Keys of a batch that describe its objects."""


class InstanceTask(InstancePrediction):
    """An experiment with objects, built from its config."""

    capabilities = frozenset({"instances"})
    answers = "finds objects"
    headline = (
        *("box_AP", "mask_AP", "mask_AP50", "mask_AP75", "keypoint_AP50", "f1@0.5"),
    )
    pictures = ()

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
            assert self.optimizer
            check_augment(
                config_lib.argument(instance_batches, config.pipeline, "augment")
            )
        self._points = self.model.keypoints

    @functools.cached_property
    def loss(self) -> InstanceLossFromConfig:
        """What is minimised."""
        return InstanceLossFromConfig(self.config.loss)

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by step."""
        return schedule_from(self.config)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Optax's transformation of the gradients."""
        init = lambda: self.init_variables(channels_of(self.config.data))
        return optimizer_from(self.config, self.schedule, lambda: blocks_of(init))

    def open_dataset(self, cache_dir: str | None, data_root: str | None) -> Dataset:
        """Opens the data set, preparing it where that has not been done.

        Raises:
          UserError: if files are missing or wrong, or the network does not fit them.
        """
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
        self.evaluation.check(self.model, dataset)
        if self.training:
            init = lambda: self.init_state(dataset.channels)
            check_optimizer(self.config, self.optimizer, init)
            self.batches(dataset, 0).close()
        return dataset

    def records(self, dataset: Dataset, split: str) -> Sequence[Record]:
        """The records of a split.

        Raises:
          UserError: if there is no such split, or it is empty; those that exist
            are named.
        """
        return records_of(dataset, split)

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

    def init_state(self, channels: int) -> TrainState:
        """Makes the state before the first step; traceable."""
        return state_of(self.init_variables(channels), self.optimizer)

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step, pure."""
        step = make_train_step(
            self.model,
            self.loss,
            self.optimizer,
            self.schedule,
            self.config.seed,
            forward_instances,
        )
        return step(state, batch)

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

    def evaluate(
        self,
        variables: Mapping[str, Any],
        dataset: Dataset,
        split: str | None = None,
        *,
        tile: int | None = None,
        crf: Any = None,
        per_image: Any = None,
    ) -> InstanceReport:
        """Measures the network on a split.

        Args:
          variables: collections of the model.
          dataset: its data.
          split: its name; None for that of the config.
          tile: None or 0: objects are found in whole images.
          crf: None; it is none of the capabilities.
          per_image: None, likewise.

        Returns:
          The metrics.

        Raises:
          UserError: if there is no such split, it has no objects, or tiles are wanted.
        """
        assert crf is None  # it is none of the capabilities
        assert per_image is None
        if tile:
            raise UserError(
                f"The tile is {tile}, but objects are found in whole images: use 0."
            )
        split = self.evaluation.split if split is None else split
        return evaluate_instances(
            self.detector(variables),
            self.records(dataset, split),
            InstanceMetrics(self.evaluation, self.model, dataset),
            split=split,
            batch_size=self.detector_batch_size,
            buckets=self.evaluated_buckets,
            resize=self.resize,
            mask_threshold=self.evaluation.mask_threshold,
        )

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures Otsu's threshold and a watershed."""
        most = self.evaluation.max_detections
        values = evaluate_watershed(dataset, split, max_detections=most)
        return {f"watershed/{metric}": value for metric, value in values.items()}

    def has_default_baseline(self, dataset: Dataset, split: str) -> bool:
        """False: a watershed is measured where the user asks for it."""
        del dataset, split
        return False

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
        rngs={"sampling": key},
        mutable=["batch_stats"],
    )
