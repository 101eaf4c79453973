"""The task of labelling every pixel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from segjax import config as config_lib
from segjax.data import channels_of
from segjax.data.augment import augmentations
from segjax.data.dataset import Dataset
from segjax.data.datasets.folder_export import export
from segjax.data.intensities import count_intensities
from segjax.data.normalization import Percentiles
from segjax.data.semantic.batches import (
    Batches,
    record_ids,
    record_names,
    shares_of,
    train_batches,
)
from segjax.errors import UserError
from segjax.layers.blocks import blocks_of
from segjax.output.folder import Outputs
from segjax.tasks.semantic.baseline import evaluate_baselines, has_default_baseline
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Report, evaluate
from segjax.tasks.semantic.fit import check_network, check_step
from segjax.tasks.semantic.image_rows import measure_images
from segjax.tasks.semantic.loss import LossFromConfig
from segjax.tasks.semantic.per_image import PerImage
from segjax.tasks.semantic.pictures import CONFUSION, write_confusion, write_examples
from segjax.tasks.semantic.prediction import SemanticPrediction
from segjax.training import sharding
from segjax.training.experiment import (
    check_optimizer,
    open_data,
    optimizer_from,
    records_of,
    schedule_from,
)
from segjax.training.state import TrainState
from segjax.training.step import Batch, Metrics, make_train_step, state_of
from segjax.types import Record
from segjax.viz.report_values import MeasuredImages

GIVEN_TO_PIPELINE = (
    "records",
    "seed",
    "batch_size",
    "output_size",
    "intensities",
    "shares",
    "process_index",
    "process_count",
    "start_step",
)
"""Arguments of `train_batches` that are not for the config's group `pipeline`."""


class SemanticTask(SemanticPrediction):
    """An experiment of semantic segmentation, built from its config.

    Everything that the user can get wrong in the config is found here, before anything
    is compiled or written.
    """

    capabilities = frozenset(
        {"labels", "probabilities", "crf", "objects", "per_image"}
        | {"downscale", "rescale"}
    )
    answers = "labels pixels"
    headline = (
        "mean_iou",
        "f1@0.5",
        "pixel_error",
        "rand_error",
        "warping_error_at_0.5",
    )
    pictures = (CONFUSION,)

    def __init__(self, config: ml_collections.ConfigDict, *, training: bool = True):
        """Builds the network, and for training loss and optimizer.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        super().__init__(config)
        self.training = training
        config_lib.check_arguments(
            train_batches,
            config.pipeline,
            "config.pipeline",
            given_later=GIVEN_TO_PIPELINE,
        )
        if training:  # built now, so that what is wrong is found now
            assert self.loss
            assert self.optimizer
            augmentations.check(
                config_lib.argument(train_batches, config.pipeline, "augment")
            )
        percentiles = config_lib.argument(train_batches, config.pipeline, "percentiles")
        config_lib.call(
            Percentiles, percentiles or {}, "config.pipeline.percentiles", learned=None
        )

    @functools.cached_property
    def loss(self) -> LossFromConfig:
        """What is minimised."""
        return LossFromConfig(self.config.loss, self.config.model.num_classes)

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
        classes = self.config.model.num_classes
        if classes != dataset.label_spec.num_classes:
            raise UserError(
                f"config.model.num_classes is {classes}, but the data set "
                f'"{dataset.name}" has {dataset.label_spec.num_classes} classes '
                f"({', '.join(dataset.label_spec.names)}): use that number."
            )
        self.evaluation.check(
            dataset.label_spec,
            objects=self._measures_objects(dataset, self.evaluation.split),
        )
        check_network(self, dataset)
        self.check_evaluated_network((*self.input_size, dataset.channels))
        if self.training:
            check_step(self, dataset.channels)
            init = lambda: self.init_state(dataset.channels)
            check_optimizer(self.config, self.optimizer, init)
            self.batches(dataset, 0).close()
        return dataset

    def _measures_objects(self, dataset: Dataset, split: str) -> bool:
        """Whether objects are wanted, and the data set numbers them."""
        records = dataset.splits.get(split, ())
        return (
            self.separation is not None and len(records) > 0 and "cells" in records[0]
        )

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

    def export(
        self,
        dataset: Dataset,
        split: str,
        folder: str | Path,
        *,
        source: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Writes a split as `images/` and `labels/` (`segjax.data.datasets.folder_export`).

        Args:
          dataset: the data.
          split: what is written.
          folder: where to.
          source: the folder of the user that the data set is read from.
          overwrite: whether files of the user are replaced.

        Returns:
          The image files.

        Raises:
          UserError: if there is no such split, the folder cannot be written, or a file
            would be lost.
        """
        records = self.records(dataset, split)
        return export(records, Path(folder), source=source, overwrite=overwrite)

    def learn(self, dataset: Dataset) -> dict[str, Any]:
        """Counts the intensities that the normalisation needs; JSON, empty if it needs none.

        They are kept with each checkpoint, as prediction has no training images, and taken
        from there by `recall`.
        """
        method = self.normalization
        if not isinstance(method, Percentiles):
            return {}
        # Folds predict together, so they must see images alike.
        records = dataset.splits["train"] if dataset.pool is None else dataset.pool
        found = count_intensities(records, method)
        return dataclasses.asdict(found)

    def prepare(self, dataset: Dataset) -> None:
        """Counts the classes, where the loss weighs them by how rare they are."""
        self.loss.fit_class_weights(dataset.splits["train"], dataset.label_spec)

    def batches(self, dataset: Dataset, start_step: int) -> Batches:
        """Opens this process's part of the training batches, from a step on."""
        return config_lib.call(
            train_batches,
            self.config.pipeline,
            "config.pipeline",
            records=dataset.splits["train"],
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            output_size=self.output_size,
            intensities=self.intensities,
            shares=shares_of(dataset.kinds_of("train")),
            process_index=sharding.process_index(),
            process_count=sharding.process_count(),
            start_step=start_step,
        )

    def records_of_step(self, dataset: Dataset, step: int) -> list[str]:
        """Names the records that the step from `step` to `step + 1` is made of."""
        records = dataset.splits["train"]
        ids = record_ids(
            len(records),
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            step=step,
            shares=shares_of(dataset.kinds_of("train")),
        )
        return record_names(records, ids.tolist())

    def init_state(self, channels: int) -> TrainState:
        """Makes the state before the first step; traceable."""
        return state_of(self.init_variables(channels), self.optimizer)

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step, pure."""
        step = make_train_step(
            self.model, self.loss, self.optimizer, self.schedule, self.config.seed
        )
        return step(state, batch)

    def abstract_batch(self, channels: int, size: int) -> dict[str, Any]:
        """Shapes and dtypes of a batch of a number of examples."""
        label = (size, *self.output_size)
        shapes = {
            "image": ((size, *self.input_size, channels), np.float32),
            "label": (label, np.int32),
            "weight": (label, np.float32),
            "record": ((size,), np.int32),
        }
        return {key: jax.ShapeDtypeStruct(*x) for key, x in shapes.items()}

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
            boundary_f1=self.evaluation.boundary_f1,
            surface_distance=self.evaluation.surface_distance,
            trimap_widths=self.evaluation.trimap_widths,
            normalization=self.normalization,
            crf=crf,
            separation=self.separation,
            per_image=per_image,
        )

    def per_image(self, dataset: Dataset, split: str) -> PerImage:
        """Makes the table of single images that `evaluate` fills."""
        objects = self._measures_objects(dataset, split)
        records = self.records(dataset, split)
        return PerImage(records, dataset.label_spec, objects=objects)

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures Otsu's threshold, a watershed, or the commonest class at each place."""
        self.records(dataset, split)
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

    def plot(
        self,
        outputs: Outputs,
        examples: Mapping[int, str],
        variables: Mapping[str, Any],
        dataset: Dataset,
        report: Report,
    ) -> None:
        """Plots the confusion matrix, and some images with labels and errors.

        Args:
          outputs: where to.
          examples: places of the records, and the names of their pictures.
          variables: collections of the trained model.
          dataset: its data.
          report: of the last evaluation.
        """
        write_confusion(outputs, report, dataset)
        write_examples(
            outputs,
            examples,
            self.predictor(variables, tile=self.evaluation.tile),
            dataset,
            split=self.evaluation.split,
            normalization=self.normalization,
        )

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
