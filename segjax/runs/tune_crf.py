"""Searching for the values of the CRF of a run."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.runs.load import load_trained
from segjax.runs.tuned_values import keep, require_writable, spread_places
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.crf_scores import predict_scenes
from segjax.tasks.semantic.crf_search import tune
from segjax.training.task import require


def tune_run(
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
    """Searches for `config.crf` of a run, on a split of its data set.

    Args:
      workdir: the folder of the run.
      split: with labels; by default the one that is evaluated during training.
      best: whether the best checkpoint predicts instead of the newest.
      step: the step of the checkpoint, if neither of those.
      num_images: how many images of the split, evenly spread over it.
      save: whether the values found are written into the run's config.
      allow_code: packages whose code may be imported where the config of the run names it.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      `step`, `split`, `images`, the mean IoU as `without_crf/mean_iou`,
      `default/mean_iou` and `tuned/mean_iou`, and the values as `crf`.

    Raises:
      UserError: for anything that the user can put right; before the search, where
        `save` is wanted and the run cannot be written. A training may go on meanwhile;
        if it is there at the end, what was found is reported and not kept.
    """
    workdir = Path(workdir)
    if save:
        require_writable(workdir)
    found = _search(
        workdir, split, best, step, num_images, cache_dir, data_root, allow_code
    )
    if save:
        keep(workdir, "crf", found["crf"])
    return found


def _search(
    workdir: Path,
    split: str | None,
    best: bool,
    step: int | None,
    num_images: int,
    cache_dir: str | None,
    data_root: str | None,
    allow_code: Collection[str],
) -> dict[str, Any]:
    """Searches; the arguments and the result are those of `tune_run`."""
    trained = load_trained(workdir, best=best, step=step, allow_code=allow_code).single(
        "tune crf"
    )
    task = require(trained.task, "crf", "tune crf")
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    records = task.records(dataset, split)
    if "label" not in records[0]:
        raise UserError(f'The split "{split}" has no labels to compare with.')
    places = spread_places(len(records), num_images)
    predictor = task.predictor(trained.variables, tile=task.evaluation.tile)
    with tempfile.TemporaryDirectory() as folder:
        scenes = predict_scenes(
            predictor, records, places, task.normalization, Path(folder)
        )
        found = tune(scenes, dataset.label_spec, trained.in_range(task.crf or CRF()))
    return {
        "step": trained.step,
        "split": split,
        "images": len(places),
        "without_crf/mean_iou": found.without,
        "default/mean_iou": found.start,
        "tuned/mean_iou": found.best,
        "crf": dataclasses.asdict(found.crf),
    }
