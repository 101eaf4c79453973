"""Protocols of a task, for the training program, the commands and the pictures.

A task holds what differs between labelling pixels and finding instances. Each protocol is
what one room needs, and no more; a task is whatever has all three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import ml_collections

from segjax.data.dataset import Dataset
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.training.layout import ONE_EACH, Spread
from segjax.training.state import TrainState
from segjax.training.step import Batch, Metrics
from segjax.types import Record
from segjax.viz.report_values import MeasuredImages

PageProgress = Callable[[int, int, str], None]
"""Called after each page with pages done, pages in all, and the name of the file."""


class Report(Protocol):
    """The outcome of an evaluation."""

    @property
    def metrics(self) -> dict[str, float]:
        """Values by name; NaN where a metric is undefined."""
        ...


class Evaluation(Protocol):
    """The settings of evaluation that every task has."""

    @property
    def split(self) -> str:
        """The split that is evaluated during training."""
        ...

    @property
    def best_metric(self) -> str:
        """The metric that marks the best checkpoint."""
        ...


class TrainingTask(Protocol):
    """A task as the training loop sees it.

    Attributes:
      config: the experiment.
      model: the network.
      input_size: height and width of a training image.
      output_size: of what the network makes of it.
      headline: metrics that are printed during training, where they were measured.
    """

    config: ml_collections.ConfigDict
    model: Any
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    headline: tuple[str, ...]

    @property
    def evaluation(self) -> Evaluation:
        """The settings of evaluation."""
        ...

    @property
    def optimizer(self) -> Any:
        """Optax's transformation of the gradients; built when it is asked for."""
        ...

    def open_dataset(self, cache_dir: str | None, data_root: str | None) -> Dataset:
        """Opens the data set, and checks that the network fits it."""
        ...

    def records(self, dataset: Dataset, split: str) -> Sequence[Record]:
        """The records of a split; a `UserError` where there are none."""
        ...

    def learn(self, dataset: Dataset) -> dict[str, Any]:
        """Counts what prediction needs to know about the training split; JSON.

        It is counted when a run begins, and kept with each checkpoint.
        """
        ...

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Takes what `learn` gave when the run began."""
        ...

    def prepare(self, dataset: Dataset) -> None:
        """Counts what the loss needs to know about the data, before it is traced."""
        ...

    def batches(self, dataset: Dataset, start_step: int) -> AbstractContextManager[Any]:
        """Opens this process's part of the training batches, from a step on."""
        ...

    def records_of_step(self, dataset: Dataset, step: int) -> list[str]:
        """Names the records that the step from `step` to `step + 1` is made of."""
        ...

    def init_variables(self, channels: int) -> Mapping[str, Any]:
        """Makes the collections of the untrained network; traceable."""
        ...

    def init_state(self, channels: int) -> TrainState:
        """Makes the state before the first step; traceable."""
        ...

    def restart(self, state: TrainState) -> TrainState:
        """The state at step 0 whose optimizer begins with its own parameters."""
        ...

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step, pure."""
        ...

    def abstract_batch(self, channels: int, size: int) -> dict[str, Any]:
        """Shapes and dtypes of a batch of a number of examples."""
        ...

    def evaluate(
        self,
        variables: Mapping[str, Any],
        dataset: Dataset,
        split: str | None = None,
        *,
        tile: int | None = None,
        crf: Any = None,
        per_image: Any = None,
    ) -> Report:
        """Measures the network on a split.

        Args:
          variables: collections of the model.
          dataset: its data.
          split: its name; None for that of the config.
          tile: output side of a tile in pixels; None for that of the config.
          crf: what refines the predictions, if anything does.
          per_image: a table that takes a row of each image, if one is wanted.

        Returns:
          The metrics.
        """
        ...


class PlottingTask(Protocol):
    """A task as the pictures and the report of a finished run see it.

    Attributes:
      pictures: names of those that are plotted of a report, beside curves and examples.
    """

    pictures: tuple[str, ...]

    def plot(
        self,
        outputs: Outputs,
        examples: Mapping[int, str],
        variables: Mapping[str, Any],
        dataset: Dataset,
        report: Any,
    ) -> None:
        """Plots `pictures`, and a picture of each example.

        Args:
          outputs: where to.
          examples: places of the records, and the names of their pictures.
          variables: collections of the trained model.
          dataset: its data.
          report: of the last evaluation.
        """
        ...

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
        """Measures images one by one.

        Args:
          variables: collections of the trained model.
          dataset: its data.
          split: of the images.
          places: theirs in the split.
          tile: output side of a tile in pixels; None for that of the config.
          with_panels: how many of them, the worst, keep their pictures.

        Returns:
          The images, the worst first.
        """
        ...


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Options of `predict` besides its input and output.

    Attributes:
      tile: output side of a tile in pixels, 0 for whole images; None chooses one.
      channels: numbers or names of those that are taken of images; None takes all.
      pages: places of those that are predicted of each file, from 0; empty for all.
      downscale: factor by which images are made smaller for the network; None: that of
        the run's data set. Tiles are pixels of the smaller images.
      rescale: whether images are brought to the size of pixels of the training images.
      probabilities: whether probabilities are written, too.
      overlay: whether overlays are written, too.
      crf: what refines the predictions, if anything does.
      objects: how objects are found and written, too, if any are.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.
      progress: called after each finished page.
      spread: over which devices.
    """

    tile: int | None = None
    channels: tuple[int | str, ...] | None = None
    pages: tuple[int, ...] = ()
    downscale: int | None = None
    rescale: bool = False
    probabilities: bool = False
    overlay: bool = False
    crf: Any = None
    objects: Any = None
    overwrite: bool = False
    progress: PageProgress | None = None
    spread: Spread = ONE_EACH


class LoadedWeights(Protocol):
    """The weights of a prediction, and the facts that come with them."""

    @property
    def variables(self) -> dict[str, Any]:
        """Collections of the model."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the images that it was trained on."""
        ...

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel of those images, micrometres, where they state it."""
        ...

    @property
    def label_spec(self) -> LabelSpec:
        """Names and colours of the classes."""
        ...

    @property
    def instance_spec(self) -> InstanceSpec | None:
        """The data set's description of its instances, where the network finds any."""
        ...


class PredictingTask(Protocol):
    """A task as `predict`, `evaluate`, `prepare` and `tune crf` see it.

    Attributes:
      capabilities: what the task can do of "labels", "instances", "probabilities", "crf",
        "objects", "per_image", "rescale" and "downscale"; flags are accepted or refused by them.
      answers: what its networks do, for messages.
      num_classes: classes of the labels that its network can tell apart.
      label_spec_type: type of their description.
    """

    capabilities: frozenset[str]
    answers: str
    num_classes: int
    label_spec_type: type[LabelSpec]

    def predict_files(
        self,
        weights: LoadedWeights,
        input: str | Path,
        output: str | Path,
        options: PredictOptions,
    ) -> list[Path]:
        """Predicts image files; returns the label files."""
        ...

    def has_default_baseline(self, dataset: Dataset, split: str) -> bool:
        """Whether a baseline is measured unless the user says otherwise."""
        ...

    def measure_also(self, names: Sequence[str]) -> None:
        """Has `evaluate` measure more: switches of `config.evaluation`, metrics from outside."""
        ...

    def per_image(self, dataset: Dataset, split: str) -> Any:
        """Makes a table of single images for `evaluate`; for the capability "per_image"."""
        ...

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures a baseline without a network; names begin with that of the baseline."""
        ...

    def export(
        self,
        dataset: Dataset,
        split: str,
        folder: str | Path,
        *,
        source: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Writes a split as images and labels.

        Args:
          dataset: the data.
          split: what is written.
          folder: where to.
          source: the folder of the user that the data set is read from.
          overwrite: whether files of the user are replaced.

        Returns:
          The image files.
        """
        ...

    def flags_that_save_memory(self, verb: str, tile: int | None) -> list[str]:
        """Flags with which a verb needs less memory."""
        ...


class Task(TrainingTask, PlottingTask, PredictingTask, Protocol):
    """An experiment of any kind."""


class InitialWeights(Protocol):
    """Weights that a run begins with instead of random ones."""

    @property
    def about(self) -> dict[str, Any]:
        """Where they come from; JSON, kept beside each checkpoint."""
        ...

    def initialize(self, state: TrainState) -> TrainState:
        """Puts them in the place of the random ones."""
        ...


def require(task: Task, capability: str, what: str) -> Any:
    """The task, where it can do what is asked for.

    Args:
      task: an experiment.
      capability: one of `PredictingTask.capabilities`.
      what: what asks for it, such as "--crf".

    Returns:
      The same task, which has the methods of that capability.

    Raises:
      UserError: if it cannot.
    """
    if capability in task.capabilities:
        return task
    other = {"instances": "that find objects"}.get(capability, "that label pixels")
    raise UserError(
        f"{what} is for networks {other}, but this run {task.answers} "
        f"({task.config.model.name})."
    )


TILE = 128
"""Output side in pixels of a tile that fits nearly everywhere."""


def smaller_tile(used: int | None) -> str:
    """The flag for tiles that are half as large as those that did not fit.

    Example:
      >>> smaller_tile(None), smaller_tile(64)
      ('--tile=128', '--tile=32')
    """
    return f"--tile={max(min(TILE, (used or 2 * TILE) // 2), 1)}"
