"""Pictures of a finished run: curves, confusion matrix, what it saw and what it said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.images import normalize
from segjax.train.evaluate import Report
from segjax.train.instance_evaluate import InstanceReport
from segjax.train.instance_pictures import draw_instances
from segjax.train.instance_task import InstanceTask
from segjax.train.tasks import Task
from segjax.train.writer import LOG, read_rows
from segjax.viz import comparison, plot_confusion, plot_curves

FOLDER = "pictures"
EXAMPLES = 3
"""How many images of the evaluated split are drawn, evenly spread over it."""


def are_drawn(workdir: Path) -> bool:
    """Whether all pictures are there, and newer than the log."""
    curves, log = workdir / FOLDER / "curves.png", workdir / LOG
    if not (curves.exists() and log.exists()):
        return False
    return curves.stat().st_mtime_ns >= log.stat().st_mtime_ns


def draw_run(
    workdir: Path,
    task: Task,
    variables: Mapping[str, Any],
    dataset: Dataset,
    report: Report | InstanceReport,
) -> list[Path]:
    """Draws `curves.png`, `confusion.png`, and image | label | prediction | error.

    Of experiments with objects `curves.png` and objects | objects that were found.

    Args:
      workdir: folder of the run; its log is read.
      task: the experiment.
      variables: collections of the trained model.
      dataset: its data.
      report: of the last evaluation.

    Returns:
      The files written, in `workdir/pictures`.
    """
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    if isinstance(task, InstanceTask):
        return draw_instances(folder, workdir, task, variables, dataset)
    assert isinstance(report, Report)
    curves, confusion = folder / "curves.png", folder / "confusion.png"
    plot_confusion(report.counts, dataset.label_spec.names, confusion)

    split = task.evaluation.split
    records = dataset.splits[split]
    chosen = np.linspace(0, len(records) - 1, min(len(records), EXAMPLES)).astype(int)
    predictor = task.predictor(variables, tile=task.evaluation.tile)
    examples = []
    for i in np.unique(chosen).tolist():
        record = records[i]
        picture = comparison(
            record["image"],
            record["label"],
            next(predictor.pages([normalize(record["image"], task.normalization)]))[
                "labels"
            ],
            dataset.label_spec.colors,
            dataset.label_spec.names,
        )
        path = folder / f"{split}_{i:03d}.png"
        picture.save(path)
        examples.append(path)
    partial = folder / "partial.png"
    plot_curves(read_rows(workdir / LOG), partial)
    partial.replace(curves)  # last and at once: who finds it finds all of them
    return [curves, confusion, *examples]
