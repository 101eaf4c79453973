"""Searching for the values by which a run finds objects in pixels."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.runs.load import load_trained
from segjax.runs.tuned_values import keep, require_writable, spread_places
from segjax.tasks.semantic.object_search import predict_object_scenes, tune_separation
from segjax.training.task import require


def tune_instances_run(
    workdir: str | Path,
    *,
    split: str | None = None,
    best: bool = False,
    step: int | None = None,
    num_images: int = 100,
    save: bool = False,
    allow_code: Collection[str] = (),
    cache_dir: str | None = None,
    data_root: str | None = None,
) -> dict[str, Any]:
    """Searches for `config.objects` of a run, on a split of its data set.

    Args:
      workdir: the folder of the run.
      split: with numbered objects; by default the one that is evaluated during training.
      best: whether the best checkpoint predicts instead of the newest.
      step: the step of the checkpoint, if neither of those.
      num_images: how many images of the split, evenly spread over it.
      save: whether the values found are written into the run's config.
      allow_code: packages whose code may be imported where the config of the run names it.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      `step`, `split`, `images`, the mean F1 over thresholds of IoU as `default/mean_f1` and
      `tuned/mean_f1`, and the values as `objects`.

    Raises:
      UserError: for anything that the user can put right; before the search, where
        `save` is wanted and the run cannot be written.
    """
    workdir = Path(workdir)
    if save:
        require_writable(workdir)
    trained = load_trained(workdir, best=best, step=step, allow_code=allow_code).single(
        "tune instances"
    )
    task = require(trained.task, "objects", "tune instances")
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    records = task.records(dataset, split)
    if "cells" not in records[0]:
        raise UserError(
            f'The split "{split}" does not number its objects: labels that do are read with '
            'config.data.labels="instances".'
        )
    places = spread_places(len(records), num_images)
    predictor = task.predictor(trained.variables, tile=task.evaluation.tile)
    with tempfile.TemporaryDirectory() as folder:
        scenes = predict_object_scenes(
            predictor, records, places, task.normalization, Path(folder)
        )
        found = tune_separation(scenes, task.separation_or_default())
    values = dataclasses.asdict(found.separation)
    if save:
        keep(workdir, "objects", values)
    return {
        "step": trained.step,
        "split": split,
        "images": len(places),
        "default/mean_f1": found.start,
        "tuned/mean_f1": found.best,
        "objects": values,
    }
