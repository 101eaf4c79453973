"""The task of labelling every pixel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data import UNLABELED
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
from segjax.data.semantic.unlabeled import (
    ONLY_LABELLED,
    SEED,
    PairedBatches,
    with_empty_labels,
)
from segjax.export.functions import PixelNetwork
from segjax.geometry.input_sizes import geometry_of
from segjax.output.folder import Outputs
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Report
from segjax.tasks.semantic.fit import check_network, check_step
from segjax.tasks.semantic.measurement import SemanticMeasurement
from segjax.tasks.semantic.pictures import CONFUSION, write_confusion, write_examples
from segjax.training import sharding
from segjax.training.experiment import check_optimizer, open_data
from segjax.training.mixing import mix_from, mixed, over_labels
from segjax.training.optimization import Optimization
from segjax.training.state import TrainState
from segjax.training.step import Batch, Loss, Metrics
from segjax.training.unlabeled import check_unlabeled, with_unlabeled

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


OVERLAPPING = frozenset({"labels", "probabilities", "downscale", "rescale"})
"""Capabilities where classes overlap."""


class SemanticTask(SemanticMeasurement, Optimization):
    """An experiment of semantic segmentation, built from its config.

    Everything that the user can get wrong in the config is found here, before anything
    is compiled or written.
    """

    capabilities = OVERLAPPING | {"crf", "objects", "per_image"}
    answers = "labels pixels"
    headline = (
        "mean_iou",
        "f1@0.5",
        "pixel_error",
        "rand_error",
        "warping_error_at_0.5",
    )
    pictures: tuple[str, ...] = (CONFUSION,)

    def __init__(self, config: ml_collections.ConfigDict, *, training: bool = True):
        """Builds the network, and for training loss and optimizer.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        super().__init__(config)
        self.training = training
        self.head.check_wishes(config, self.evaluation)
        if self.head.overlaps:
            self.capabilities, self.pictures = OVERLAPPING, ()
            self.answers = "gives a pixel any number of classes"
        config_lib.check_arguments(
            train_batches,
            config.pipeline,
            "config.pipeline",
            given_later=GIVEN_TO_PIPELINE,
        )
        if training:  # built now, so that what is wrong is found now
            assert self.loss
            assert callable(self.step)
            self._check_metric_names()
            augmentations.check(
                config_lib.argument(train_batches, config.pipeline, "augment")
            )
            check_unlabeled(config)
            shapes = self.abstract_batch(3, config.batch_size)
        self.mix = mix_from(config, shapes) if training else None
        percentiles = config_lib.argument(train_batches, config.pipeline, "percentiles")
        config_lib.call(
            Percentiles, percentiles or {}, "config.pipeline.percentiles", learned=None
        )

    def open_dataset(self, cache_dir: str | None, data_root: str | None) -> Dataset:
        """Opens the data set, preparing it where that has not been done.

        Raises:
          UserError: if files are missing or wrong, or the network does not fit them.
        """
        dataset = open_data(self.config, cache_dir, data_root)
        self.head.check_labels(dataset.label_spec, dataset.name)
        self._check_evaluation(dataset)
        if self.training:
            dataset = with_unlabeled(self.config, dataset, cache_dir, data_root)
        check_network(self, dataset)
        self.check_evaluated_network((*self.input_size, dataset.channels))
        if self.training:
            check_step(self, dataset.channels)
            self.check_own_step(dataset)
            init = lambda: self.init_state(dataset.channels)
            check_optimizer(self.config, self.optimizer, init)
            self.batches(dataset, 0).close()
        return dataset

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

    def pixel_network(
        self, variables: Mapping[str, Any], channels: int, crf: CRF | None = None
    ) -> PixelNetwork:
        """The network with all that `predict` does around it, for programs.

        Args:
          variables: collections of the model, or of the networks of a run with folds.
          channels: of the images that it was trained on.
          crf: what refines the predictions, if anything does.

        Returns:
          The network, as `segjax.export` takes it.
        """
        return PixelNetwork(
            apply=self.predicted,
            variables=variables,
            channels=channels,
            geometry=geometry_of(self.evaluated_model),
            head=self.head.read,
            normalization=self.normalization,
            passes=self.evaluation.passes,
            temperature=self.calibration.temperature,
            downscale=self.downscale,
            refine=None if crf is None else crf.refine,
            name=self.config.model.name,
        )

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
        pipeline, seed = self.config.pipeline.to_dict(), self.config.seed
        stream = functools.partial(
            config_lib.call,
            train_batches,
            where="config.pipeline",
            output_size=self.output_size,
            intensities=self.intensities,
            process_index=sharding.process_index(),
            process_count=sharding.process_count(),
            start_step=start_step,
        )
        labelled = stream(
            group=pipeline,
            records=dataset.splits["train"],
            seed=seed,
            batch_size=self.config.batch_size,
            shares=shares_of(dataset.kinds_of("train")),
        )
        if UNLABELED not in dataset.splits:
            return labelled
        unlabeled = stream(
            group={k: v for k, v in pipeline.items() if k not in ONLY_LABELLED},
            records=with_empty_labels(dataset.splits[UNLABELED]),
            seed=seed + SEED,
            batch_size=self.config.data[UNLABELED].batch_size,
        )
        return PairedBatches(labelled, unlabeled)

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

    @property
    def step_loss(self) -> Loss:
        """The loss of a batch whose examples may be mixed."""
        return over_labels(self.loss)

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step, pure."""
        batch = mixed(self.mix, batch, seed=self.config.seed, step=state.step)
        return super().train_step(state, batch)

    def abstract_batch(self, channels: int, size: int) -> dict[str, Any]:
        """Shapes and dtypes of a batch of a number of examples."""
        label = (size, *self.output_size)
        shapes = {
            "image": ((size, *self.input_size, channels), np.float32),
            "label": (label, np.int32),
            "weight": (label, np.float32),
            "record": ((size,), np.int32),
        }
        if self.config.data.get(UNLABELED) is not None:
            count = size * self.config.data[UNLABELED].batch_size
            images = (count // self.config.batch_size, *self.input_size, channels)
            shapes[UNLABELED] = (images, np.float32)
        return {key: jax.ShapeDtypeStruct(*x) for key, x in shapes.items()}

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
