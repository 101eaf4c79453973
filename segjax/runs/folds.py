"""Training every fold of the labelled images, and what the folds say together."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from segjax.errors import UserError
from segjax.metrics import without_nan
from segjax.output.files import whole_file
from segjax.remote.address import require_local
from segjax.runs.train import train
from segjax.tasks.table import make_task
from segjax.training import sharding
from segjax.training.loop import Result
from segjax.training.run_files.workdir import (
    CONFIG_FILE,
    fold_count,
    fold_folder,
    writing,
)
from segjax.training.task import require

log = logging.getLogger("segjax")

SUMMARY = "folds.json"


def train_folds(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    count: int,
    cache_dir: str | None = None,
    data_root: str | None = None,
    *,
    allow_code: Collection[str] = (),
) -> tuple[list[Result], dict[str, Any]]:
    """Trains a network for each fold, in `workdir/fold_0` and so on.

    Each is a run of its own, with `config.fold`: one that has all its steps is not trained
    again, one that was interrupted goes on. Where a signal ends a fold, the others wait.

    Args:
      config: the experiment.
      workdir: the folder of all folds; made where it is missing.
      count: of the folds.
      cache_dir: where prepared data sets lie; None for the default of TFDS.
      data_root: where the user's own files lie.
      allow_code: see `train`.

    Returns:
      How each fold ended, and once all are trained what `summarize_folds` gives, which is
      written as `workdir/folds.json`, too; before that it is empty.

    Raises:
      UserError: for anything that the user can put right.
    """
    for flag, place in (("workdir", workdir), ("data_root", data_root)):
        require_local(place, f"--{flag}")
    workdir = Path(workdir)
    configs = [_with_fold(config, index, count) for index in range(count)]
    task = require(make_task(configs[0]), "labels", "--folds")
    _check_folder(workdir, count)
    task.open_dataset(
        cache_dir, data_root
    )  # what is wrong with folds is wrong with all
    results: list[Result] = []
    for index, of_fold in enumerate(configs):
        log.info("Fold %d of %d", index + 1, count)
        folder = fold_folder(workdir, index)
        result = train(of_fold, folder, cache_dir, data_root, allow_code=allow_code)
        results.append(result)
        if results[-1].interrupted or results[-1].signal is not None:
            return results, {}
    summary = summarize_folds([result.metrics for result in results])
    if sharding.process_index() == 0:
        _write_summary(workdir, results, summary)
    return results, summary


def _write_summary(
    workdir: Path, results: list[Result], summary: dict[str, dict[str, float]]
) -> None:
    values = {
        "folds": [without_nan(result.metrics) for result in results],
        **{key: without_nan(summary[key]) for key in summary},
    }
    with writing(workdir), whole_file(workdir / SUMMARY) as file:
        file.write(json.dumps(values, indent=2).encode() + b"\n")


def summarize_folds(metrics: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and spread of each metric over the folds.

    Args:
      metrics: of each fold, at least two.

    Returns:
      `mean` and `std`, the sample standard deviation (of n - 1), by metric; a fold in which
      a metric is undefined is left out, and with fewer than two others `std` is NaN.

    Example:
      >>> summarize_folds([{"mean_iou": 0.5}, {"mean_iou": 0.75}])["mean"]
      {'mean_iou': 0.625}
    """
    mean, std = {}, {}
    for name in metrics[0]:
        values = np.array([found.get(name, math.nan) for found in metrics])
        values = values[~np.isnan(values)]
        mean[name] = float(values.mean()) if len(values) else math.nan
        std[name] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return {"mean": mean, "std": std}


def _with_fold(
    config: ml_collections.ConfigDict, index: int, count: int
) -> ml_collections.ConfigDict:
    if "fold" in config:
        raise UserError(
            "The config has a group fold, which says that one fold is trained: leave it out, "
            "or train without --folds."
        )
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.fold = {"index": index, "count": count}
    return changed


def _check_folder(workdir: Path, count: int) -> None:
    """Checks that a folder holds no other run, and no other number of folds."""
    if (workdir / CONFIG_FILE).exists():
        raise UserError(
            f"--workdir={workdir} holds a run without folds: give --folds another --workdir."
        )
    before = fold_count(workdir)
    if before not in (0, count):
        raise UserError(
            f"--workdir={workdir} holds {before} folds: go on with --folds={before}, or give "
            "another --workdir."
        )
