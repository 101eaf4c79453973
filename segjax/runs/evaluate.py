"""Measuring a checkpoint of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from segjax.runs.load import load_trained


def evaluate_run(
    workdir: str | Path,
    *,
    split: str | None = None,
    best: bool = False,
    tile: int | None = None,
    baseline: bool = False,
    crf: bool = False,
    cache_dir: str | None = None,
    data_root: str | None = None,
) -> dict[str, Any]:
    """Measures a checkpoint of a run on a split of its data set.

    Args:
      workdir: the folder of the run.
      split: the split; by default the one that is evaluated during training.
      best: whether the best checkpoint is measured instead of the newest.
      tile: output side of a tile in pixels; None for that of the config.
      baseline: whether baselines without a network are measured, too: Otsu's threshold for
        cells in grey images, that and a watershed for objects, elsewhere the
        commonest class at each place.
      crf: whether `config.crf` of the run refines the predictions.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      `step`, `split`, `parameters_sha256`, with a CRF its values as `crf`, and every
      metric by name; those of the baseline as `otsu/<name>`, `watershed/<name>` or
      `position/<name>`.
    """
    trained = load_trained(workdir, best=best)
    task, variables = trained.task, trained.variables
    refinement = trained.refinement() if crf else None
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    report = task.evaluate(variables, dataset, split, tile=tile, crf=refinement)
    below = task.baseline(dataset, split) if baseline else {}
    return {
        "step": trained.step,
        "split": split,
        "parameters_sha256": trained.parameters_sha256,
        **({"crf": dataclasses.asdict(refinement)} if refinement else {}),
        **report.metrics,
        **below,
    }
