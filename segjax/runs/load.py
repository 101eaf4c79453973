"""A network that was trained: what evaluation and prediction start from."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data.dataset import Dataset
from segjax.data.files.images import normalize
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import InstanceClasses, LabelSpec
from segjax.predict.downscaled import enlarged, reduced
from segjax.predict.test_time import AveragedPredictor
from segjax.predict.tiled import Predictor
from segjax.tasks.instance.baseline import evaluate_watershed
from segjax.tasks.instance.task import InstanceTask
from segjax.tasks.semantic.baseline import evaluate_baseline
from segjax.tasks.semantic.crf import CRF, max_intensity_of
from segjax.tasks.table import Task, make_task, semantic
from segjax.training import checkpoint
from segjax.training.divergence import not_finite
from segjax.training.sharding import Devices
from segjax.training.state import TrainState
from segjax.training.workdir import read_config
from segjax.types import Record, UserError

RANGE_IMAGES = 32
"""So many training images, evenly spread, tell the range of those of 16 bits."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint, loaded.

    Attributes:
      task: the experiment.
      variables: collections of the model, on the devices of this process.
      channels: channels of the images that it was trained on.
      label_spec: names and colours of the classes.
      step: the step of the checkpoint.
      parameters_sha256: hash of its parameters.
      instances: what the objects are that it finds, where it finds objects.
      max_intensity: the largest value that training images of 16 bits can have, by
        their bit depth; None for 8 bits, or where the checkpoint does not know it.
    """

    task: Task
    variables: dict[str, Any]
    channels: int
    label_spec: LabelSpec
    step: int
    parameters_sha256: str
    instances: InstanceSpec | None = None
    max_intensity: int | None = None

    def refinement(self) -> CRF:
        """What `--crf` does to predictions, with the range of the training images.

        Raises:
          UserError: if the config has no group `crf`, or the network finds objects.
        """
        return self.in_range(semantic(self.task, "--crf").refinement())

    def in_range(self, crf: CRF) -> CRF:
        """A CRF with the range of the training images, if it has none of its own."""
        if crf.max_intensity is not None:
            return crf
        return dataclasses.replace(crf, max_intensity=self.max_intensity)

    def labels(self, image: np.ndarray, *, downscale: int | None = None) -> np.ndarray:
        """Labels an image of any size.

        Args:
          image: as it is stored, uint8 or uint16 `[H, W, C]`; it is normalised as those
            were that the network was trained on.
          downscale: factor by which it is made smaller before; None: as they were.

        Returns:
          Class ids, uint8 `[H, W]`.

        Raises:
          ValueError: if the image is of another shape or type.
          UserError: if the network finds objects, for which `segjax.runs.predict.finder`
            is.
        """
        task = semantic(self.task, "labels")
        wanted = (np.uint8, np.uint16)
        if (
            image.ndim != 3
            or image.shape[2] != self.channels
            or image.dtype not in wanted
        ):
            raise ValueError(
                f"image is {image.dtype} {list(image.shape)}; allowed are uint8 and "
                f"uint16 [H, W, {self.channels}]"
            )
        factor = task.downscale if downscale is None else downscale
        small = normalize(reduced(image, factor), task.normalization)
        if factor == 1:
            return next(self._predictor.pages([small], ("labels",)))["labels"]
        page = next(self._predictor.pages([small], ("logits",)))
        return enlarged(page, factor, image.shape[:2], ("labels",))["labels"]

    @functools.cached_property
    def _predictor(self) -> Predictor | AveragedPredictor:
        return semantic(self.task, "labels").predictor(self.variables)


def describe(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint says of itself; JSON.

    Predicting needs no data set but this. `records` tells changed data: of each split
    how many records there are, and a hash of three of them. `max_intensity` is for the
    CRF, see `Trained`.
    """
    about = {
        "config": json.loads(config_lib.to_json(config)),
        "channels": dataset.channels,
        "label_spec": dataclasses.asdict(dataset.label_spec),
        "instances": (
            None if dataset.instances is None else dataclasses.asdict(dataset.instances)
        ),
        "max_intensity": _max_intensity(dataset),
        "records": {
            split: {"count": len(records), "sha256": _records_sha256(records)}
            for split, records in dataset.splits.items()
        },
    }
    return json.loads(json.dumps(about))


def check_data(
    saved: Mapping[str, Any], now: Mapping[str, Any], splits: Iterable[str]
) -> None:
    """Checks that a run goes on with the data that it began with.

    Args:
      saved: what the checkpoint says of itself.
      now: what a checkpoint of now would say.
      splits: those that matter to the run.

    Raises:
      UserError: naming what has changed.
    """
    changes = [
        f"{key} was {saved[key]}, now {now[key]}"
        for key in ("channels", "label_spec")
        if saved[key] != now[key]
    ]
    for split in dict.fromkeys(splits):
        before, after = (
            saved.get("records", now["records"])[split],
            now["records"][split],
        )
        if before["count"] != after["count"]:
            changes.append(
                f"{split} had {before['count']} images, now {after['count']}"
            )
        elif before != after:
            changes.append(f"{split} has other images, labels or names")
    if changes:
        raise UserError(
            f"The data have changed since this run began: {'; '.join(changes)}. Go on "
            "with the data of then, or train in another --workdir."
        )


def _max_intensity(dataset: Dataset) -> int | None:
    """The range of training images of 16 bits, for `Trained`."""
    records = dataset.splits.get("train", ())
    if dataset.instances is not None or not len(records):
        return None
    found = []
    for i in np.unique(np.linspace(0, len(records) - 1, RANGE_IMAGES).round()):
        image = records[int(i)]["image"]
        if image.dtype == np.uint8:
            return None
        found.append(max_intensity_of(image))
    return max(found)


def _records_sha256(records: Sequence[Record]) -> str:
    """Hashes the first, the middle and the last record: name, image and label."""
    digest = hashlib.sha256()
    for i in sorted({0, len(records) // 2, len(records) - 1} if len(records) else ()):
        record = records[i]
        digest.update(record["name"].encode() + b"\n")
        for key in ("image", "label", "boxes", "classes"):
            if key in record:
                array = np.ascontiguousarray(record[key])
                digest.update(f"{key} {array.shape} {array.dtype}\n".encode())
                digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def load_trained(
    workdir: str | Path, *, best: bool = False, step: int | None = None
) -> Trained:
    """Loads the newest checkpoint of a run, the best, or that of a step.

    Args:
      workdir: the folder of the run.
      best: whether the checkpoint with the best metric is wanted.
      step: the step of the checkpoint that is wanted, if it is neither.

    Returns:
      The network with all that it takes to use it.

    Raises:
      UserError: if there is no run, no whole checkpoint, or its values are not finite.
    """
    workdir = Path(workdir)
    task = make_task(read_config(workdir))
    sharding = Devices.of_this_process().replicated
    with checkpoint.Checkpoints(
        workdir, task.evaluation.best_metric, read_only=True
    ) as checkpoints:
        channels = checkpoints.newest_about()["channels"]
        abstract = checkpoint.abstract_like(
            jax.eval_shape(lambda: task.init_state(channels)), sharding
        )
        if best:
            step = checkpoints.best_step()
            if step is None:
                raise UserError(
                    f"--workdir={workdir} has no evaluated checkpoint yet: use "
                    "--checkpoint=latest."
                )
        if step is not None:
            try:
                state, about = checkpoints.restore(step, abstract)
            except checkpoint.DamagedError as error:
                advice = "--checkpoint=latest" if best else "another"
                raise UserError(f"{error} Use {advice}.") from error
        else:
            state, about = checkpoints.restore_newest(abstract)
        wrong = _not_finite(state)
        if wrong:
            raise UserError(
                f"--workdir={workdir} has a checkpoint, that of step {about['step']}, "
                f"whose values are not finite in {wrong}: nothing can be computed with "
                "them. Train again in another --workdir, with a lower learning rate"
                f"{_finite_ones(checkpoints, abstract)}."
            )
    objects = about.get("instances")
    spec_type = InstanceClasses if objects else LabelSpec
    return Trained(
        task=task,
        variables=state.variables,
        channels=about["channels"],
        label_spec=spec_type(**about["label_spec"]),
        step=about["step"],
        parameters_sha256=about["parameters_sha256"],
        instances=InstanceSpec(**objects) if objects else None,
        max_intensity=about.get("max_intensity"),
    )


def _not_finite(state: TrainState) -> str:
    """Says which parameters or statistics are NaN or infinite; empty if none are."""
    wrong = list(not_finite(state.variables))
    if not wrong:
        return ""
    many = f"{len(wrong)} of {len(jax.tree.leaves(state.variables))} arrays"
    return f"{many}, the first is {wrong[0].partition('/')[2]}"


def _finite_ones(checkpoints: checkpoint.Checkpoints, abstract: TrainState) -> str:
    """Offers the best and the newest checkpoint, those of them that can be used."""
    newest = checkpoints.steps()[0]
    offered = ""
    for flag, step in (("best", checkpoints.best_step()), ("latest", newest)):
        with contextlib.suppress(checkpoint.DamagedError, UserError):
            if step is not None and not _not_finite(
                checkpoints.restore(step, abstract)[0]
            ):
                offered += (
                    f", or evaluate and predict step {step} (--checkpoint={flag})"
                )
    return offered


def evaluate_run(
    workdir: str | Path,
    *,
    split: str | None = None,
    best: bool = False,
    tile: int | None = None,
    baseline: bool = False,
    crf: bool = False,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> dict[str, Any]:
    """Measures a checkpoint of a run on a split of its data set.

    Args:
      workdir: the folder of the run.
      split: the split; by default the one that is evaluated during training.
      best: whether the best checkpoint is measured instead of the newest.
      tile: output side of a tile in pixels; None for that of the config.
      baseline: whether what needs no network is measured, too: Otsu's threshold for
        cells in grey images, that and a watershed for objects, elsewhere the
        commonest class at each place.
      crf: whether `config.crf` of the run refines the predictions.
      data_dir: where prepared data sets lie.
      manual_dir: where the person's own files lie.

    Returns:
      `step`, `split`, `parameters_sha256`, with a CRF its values as `crf`, and every
      metric by name; those of the baseline as `otsu/<name>`, `watershed/<name>` or
      `position/<name>`.
    """
    trained = load_trained(workdir, best=best)
    task, variables = trained.task, trained.variables
    refinement = trained.refinement() if crf else None
    dataset = task.open_dataset(data_dir, manual_dir)
    split = task.evaluation.split if split is None else split
    below: dict[str, float] = {}
    if isinstance(task, InstanceTask):
        metrics = task.evaluate(variables, dataset, split, tile=tile).metrics
    else:
        metrics = task.evaluate(
            variables, dataset, split, tile=tile, crf=refinement
        ).metrics
    if baseline and isinstance(task, InstanceTask):
        most = task.evaluation.max_detections
        values = evaluate_watershed(dataset, split, max_detections=most)
        below = {f"watershed/{metric}": value for metric, value in values.items()}
    elif baseline:
        name, found = evaluate_baseline(semantic(task, "--baseline"), dataset, split)
        below = {f"{name}/{metric}": value for metric, value in found.metrics.items()}
    return {
        "step": trained.step,
        "split": split,
        "parameters_sha256": trained.parameters_sha256,
        **({"crf": dataclasses.asdict(refinement)} if refinement else {}),
        **metrics,
        **below,
    }
