"""Several runs as one model: the mean of their class probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.runs.load import TrainedModel, load_trained, mean_of
from segjax.training.task import require


def load_ensemble(
    workdirs: Sequence[str | Path],
    *,
    best: bool = False,
    step: int | None = None,
    allow_code: Collection[str] = (),
) -> TrainedModel:
    """Loads runs, whose class probabilities are averaged; their networks may differ.

    Args:
      workdirs: folders of runs, model files or names of models, one or more.
      best: whether the best checkpoint of each is wanted instead of the newest.
      step: the step of the checkpoints, if neither of those.
      allow_code: packages whose code may be imported where the config of a run names it.

    Returns:
      The model; of one run that of `load_trained`. What is measured, and the data set, are
      those of the first.

    Raises:
      UserError: as `load_trained`; if runs find objects, or have other classes, channels or
        sizes of images.
    """
    options: dict[str, Any] = {"best": best, "step": step, "allow_code": allow_code}
    models = [load_trained(workdir, **options) for workdir in workdirs]
    if len(models) == 1:
        return models[0]
    # A task is imported where it is used (`segjax.tasks.table`).
    from segjax.tasks.semantic.ensemble import SemanticEnsemble

    first = models[0]
    for workdir, model in zip(workdirs, models, strict=True):
        require(
            model.task, "labels", f"The mean of several runs, {workdir} among them,"
        )
        for what, one, other in (
            ("classes", _classes(first), _classes(model)),
            ("channels of the images", first.channels, model.channels),
            ("config.data.downscale", _downscale(first), _downscale(model)),
        ):
            if one != other:
                raise UserError(
                    f"{workdirs[0]} and {workdir} cannot be averaged, as they differ in "
                    f"{what}: {one} and {other}. Give runs that have the same."
                )
    task: Any = SemanticEnsemble([model.task for model in models], first.channels)
    found = mean_of(models, tuple(model.variables for model in models), task)
    return dataclasses.replace(found, folds=max(model.folds for model in models))


def _classes(model: TrainedModel) -> str:
    spec = model.label_spec
    overlap = isinstance(spec, OverlappingClasses)
    return ", ".join(spec.names) + ", which overlap" * overlap


def _downscale(model: TrainedModel) -> int:
    return require(model.task, "downscale", "--ensemble").downscale
