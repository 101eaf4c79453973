"""A trained network, from which evaluation and prediction start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import config as config_lib
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import InstanceClasses, LabelSpec
from segjax.errors import UserError
from segjax.predict.ensemble import stack_members
from segjax.predict.inputs import in_channels
from segjax.remote.address import is_remote
from segjax.remote.copies import to_read
from segjax.runs.model_file import find_model_file, read_model_file
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.table import make_task
from segjax.training.about import LEARNED, TRAIN_IMAGES
from segjax.training.checkpoints import checkpoint
from segjax.training.divergence import not_finite
from segjax.training.run_files.workdir import (
    CONFIG_FILE,
    fold_count,
    fold_folder,
    is_needed_to_load,
    read_config,
)
from segjax.training.sharding import Devices
from segjax.training.state import TrainState, without_optimizer
from segjax.training.task import Task, require


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A checkpoint, loaded.

    Attributes:
      task: the experiment.
      variables: collections of the model, on the devices of this process; of a run with
        folds, `segjax.predict.ensemble.Members`.
      channels: channels of the images that it was trained on.
      label_spec: names and colours of the classes.
      step: the step of the checkpoint.
      parameters_sha256: hash of its parameters.
      instance_spec: the description of its objects, where it finds objects.
      folds: of how many networks it is the mean, each trained on other folds.
      max_intensity: the largest value that training images of 16 bits can have, by
        their bit depth; None for 8 bits, or where the checkpoint does not know it.
      pixel_size: height and width of a pixel of the training images, micrometres; None
        where they state none.
      about: JSON that is kept beside the checkpoint, such as the metrics of the evaluation at
        that step.
    """

    task: Task
    variables: Any
    channels: int
    label_spec: LabelSpec
    step: int
    parameters_sha256: str
    instance_spec: InstanceSpec | None = None
    max_intensity: int | None = None
    pixel_size: tuple[float, float] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folds: int = 1

    def single(self, what: str) -> TrainedModel:
        """The same, where it is one network.

        Raises:
          UserError: if it is the mean of several; `what` names what cannot take those.
        """
        if self.folds > 1:
            raise UserError(
                f"{what} is for one network, but the run holds {self.folds} folds: give the "
                "folder of one of them, such as fold_0."
            )
        return self

    def refinement(self) -> CRF:
        """The CRF of `--crf`, with the range of the training images.

        Raises:
          UserError: if the config has no group `crf`, or the network finds objects.
        """
        return self.in_range(require(self.task, "crf", "--crf").refinement())

    def in_range(self, crf: CRF) -> CRF:
        """A CRF with the range of the training images, if it has none of its own."""
        if crf.max_intensity is not None:
            return crf
        return dataclasses.replace(crf, max_intensity=self.max_intensity)

    def labels(self, image: np.ndarray, *, downscale: int | None = None) -> np.ndarray:
        """Labels an image of any size, or each page of a stack.

        Args:
          image: as it is stored, `[H, W]`, `[H, W, C]`, or a stack of such, `[T, ...]`. The
            last of three axes is the channels where it is as long as the network has
            channels, or 3; otherwise the first is a stack. Channels are brought to those
            of the network as by `predict`; the values are normalised as in training.
          downscale: factor by which it is made smaller before; None: that of training.

        Returns:
          Class ids, uint8 `[H, W]` or `[T, H, W]`.

        Raises:
          ValueError: if the image is of another shape or type.
          UserError: if the network finds objects; `instances` is for those. If an image in
            colour is given to a network that was trained on grey ones.
        """
        task = require(self.task, "labels", "labels")
        stack, is_stack = self._stack_of(image)
        labels = task.label_stack(self._predictor, stack, downscale)
        return labels if is_stack else labels[0]

    def instances(
        self, image: np.ndarray, *, downscale: int | None = None, link: bool = False
    ) -> np.ndarray:
        """Numbers the objects of an image of any size, or of each page of a stack.

        Args:
          image: see `labels`.
          downscale: for networks that label pixels; see `labels`.
          link: for those, too: whether objects of neighbouring pages that overlap are one.

        Returns:
          Numbers of objects from 1, 0 where there is none, int32 `[H, W]` or `[T, H, W]`.
          Of a network that labels pixels they are unique in a stack
          (`segjax.objects.separation`); of one that finds objects each page begins at 1,
          the best object first (`finder` gives boxes and scores).

        Raises:
          ValueError: if the image is of another shape or type.
          UserError: as `labels`.
        """
        stack, is_stack = self._stack_of(image)
        if "labels" in self.task.capabilities:
            task = require(self.task, "objects", "instances")
            numbers = task.number_stack(self._predictor, stack, downscale, link=link)
        else:
            task = require(self.task, "instances", "instances")
            numbers = task.number_stack(task.finder(self.variables), stack)
        return numbers if is_stack else numbers[0]

    def _stack_of(self, image: np.ndarray) -> tuple[np.ndarray, bool]:
        """An array as a stack `[T, H, W, C]` for the network, and whether it was one."""
        channels = self.channels
        has_channels = image.ndim == 4 or (
            image.ndim == 3 and image.shape[-1] in (channels, 3)
        )
        stack = image if has_channels else image[..., None]
        is_stack = stack.ndim == 4
        if stack.ndim not in (3, 4) or 0 in stack.shape[-3:]:
            raise ValueError(
                f"image is {image.dtype} {list(image.shape)}; allowed are [H, W], [H, W, C], "
                "and stacks of them"
            )
        pages = stack if is_stack else stack[None]
        if not len(pages):
            return np.zeros((*pages.shape[:3], channels), pages.dtype), is_stack
        found = [in_channels("The image", page, channels) for page in pages]
        return np.stack(found), is_stack

    def finder(self, *, tile: int | None = None) -> Any:
        """Makes a function that finds objects in images of any size.

        Args:
          tile: side of a tile in pixels of the image, 0 for whole images; None chooses
            one.

        Returns:
          A function of an image; see `segjax.tasks.instance.files.InstancePredictor`.

        Raises:
          UserError: if the network labels pixels; `labels` is for those.
        """
        task = require(self.task, "instances", "finder")
        return task.finder(self.variables, tile=tile)

    @functools.cached_property
    def _predictor(self) -> Any:
        return require(self.task, "labels", "labels").predictor(self.variables)


def load_trained(
    workdir: str | Path,
    *,
    best: bool = False,
    step: int | None = None,
    allow_code: Collection[str] = (),
) -> TrainedModel:
    """Loads the newest checkpoint of a run, the best, or that of a step; or a model file.

    Of a run with folds all are loaded, and their probabilities averaged.

    Args:
      workdir: the folder of the run, a model file, or the name of a model that comes with
        segjax; a folder or file may be remote, such as s3://bucket/runs/a.
      best: whether the checkpoint with the best metric is wanted.
      step: the step of the checkpoint that is wanted, if neither of those.
      allow_code: packages, by their whole names, whose code may be imported where the config
        of the run names it.

    Returns:
      The network with everything needed to use it.

    Raises:
      UserError: if there is no run, no whole checkpoint, or its values are not finite; if
        the model file is damaged; or if it needs code of a package without leave.
    """
    if is_remote(workdir):
        with to_read(workdir, "--workdir", is_needed_to_load) as copy:
            return load_trained(copy, best=best, step=step, allow_code=allow_code)
    file = find_model_file(workdir)
    if file is not None:
        return _load_model_file(file, allow_code, best=best, step=step)
    workdir = Path(workdir)
    if folders := _folds_in(workdir):
        options: dict[str, Any] = {"best": best, "step": step, "allow_code": allow_code}
        models = [load_trained(folder, **options) for folder in folders]
        together = stack_members([model.variables for model in models])
        return dataclasses.replace(mean_of(models, together), folds=len(models))
    config = config_lib.with_leave(read_config(workdir), allow_code)
    task = make_task(config, training=False)
    sharding = Devices.of_this_process().replicated
    with checkpoint.Checkpoints(
        workdir, task.evaluation.best_metric, read_only=True
    ) as checkpoints:
        channels = checkpoints.newest_about()["channels"]
        abstract = checkpoint.abstract_like(
            jax.eval_shape(lambda: without_optimizer(task.init_variables(channels))),
            sharding,
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
    return _trained_model(task, state.evaluated(), about)


def _load_model_file(
    path: Path, allow_code: Collection[str], *, best: bool, step: int | None
) -> TrainedModel:
    if best or step is not None:
        raise UserError(
            f"{path} is a model file, which holds one checkpoint: leave out "
            f"{'--checkpoint=best' if best else 'the step'}."
        )
    read = read_model_file(path, allow_code)
    devices = Devices.of_this_process()
    try:
        found = _trained_model(
            read.task, devices.put_replicated_here(read.variables), read.about
        )
    except (TypeError, ValueError, KeyError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} does not describe its classes or images as segjax does ({error}). Export the run "
            "again."
        ) from error
    if found.label_spec.num_classes != read.task.num_classes:
        raise UserError(
            f"{path} names {found.label_spec.num_classes} classes, and its network has "
            f"{read.task.num_classes}. Export the run again."
        )
    return found


def _trained_model(
    task: Task, variables: dict[str, Any], about: Mapping[str, Any]
) -> TrainedModel:
    """Puts a network and the JSON beside it together."""
    task.recall(about.get(LEARNED, {}))
    objects = about.get("instances")
    spec_type = InstanceClasses if objects else task.label_spec_type
    return TrainedModel(
        task=task,
        variables=variables,
        channels=about["channels"],
        label_spec=spec_type(**about["label_spec"]),
        step=about["step"],
        parameters_sha256=about["parameters_sha256"],
        instance_spec=InstanceSpec(**objects) if objects else None,
        max_intensity=about.get("max_intensity"),
        pixel_size=_pixel_size(about.get("pixel_size")),
        about=about,
    )


def _pixel_size(stored: Sequence[float] | None) -> tuple[float, float] | None:
    if stored is None:
        return None
    height, width = (float(side) for side in stored)
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"pixels of {stored}")
    return height, width


def _folds_in(workdir: Path) -> list[Path]:
    """The folders of all folds of a run; none where it has no folds.

    Raises:
      UserError: if some of them are missing.
    """
    first = fold_folder(workdir, 0)
    if (workdir / CONFIG_FILE).exists():
        return []
    count = fold_count(workdir)
    folders = [fold_folder(workdir, index) for index in range(count)]
    for folder in folders:
        if not (folder / CONFIG_FILE).exists():
            raise UserError(
                f"{folder} is missing, one of {count} folds: give the command that trains "
                f"them again, or use one fold alone, as --workdir={first}."
            )
    return folders


def mean_of(
    models: Sequence[TrainedModel], variables: Any, task: Task | None = None
) -> TrainedModel:
    """Several networks as one, whose probabilities are averaged.

    Args:
      models: those, of the same classes.
      variables: of all of them, as the task takes them.
      task: that averages them; None for that of the first.

    Returns:
      The model, with the images and the range that any of them knows; all else is that of
      the first.
    """
    digests = "".join(model.parameters_sha256 for model in models)
    ranges = [x.max_intensity for x in models if x.max_intensity is not None]
    known = {x for model in models for x in model.about.get(TRAIN_IMAGES, ())}
    return dataclasses.replace(
        models[0],
        task=models[0].task if task is None else task,
        variables=variables,
        about={**models[0].about, TRAIN_IMAGES: sorted(known)},
        step=min(model.step for model in models),
        parameters_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        max_intensity=max(ranges, default=None),
    )


def _not_finite(state: TrainState) -> str:
    """Says which parameters or statistics are NaN or infinite; empty if none are."""
    variables = state.evaluated()
    wrong = list(not_finite(variables))
    if not wrong:
        return ""
    many = f"{len(wrong)} of {len(jax.tree.leaves(variables))} arrays"
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
