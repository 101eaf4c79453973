"""Pictures of a finished run: curves, and what the task has to show."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.dataset import Dataset
from segjax.output.folder import Outputs
from segjax.training.run_files.workdir import LOG
from segjax.training.run_files.writer import read_rows
from segjax.training.task import Report, Task
from segjax.viz import plot_curves

FOLDER = "pictures"
CURVES = "curves.png"
EXAMPLES = 3
"""How many images of the evaluated split are plotted, evenly spread over it."""


def are_plotted(workdir: Path) -> bool:
    """Whether all pictures are there, and newer than the log."""
    curves, log = workdir / FOLDER / CURVES, workdir / LOG
    if not (curves.exists() and log.exists()):
        return False
    return curves.stat().st_mtime_ns >= log.stat().st_mtime_ns


def plan_pictures(workdir: Path, task: Task, dataset: Dataset) -> Outputs:
    """Names the pictures of a run and checks that they can be plotted; plots none.

    Args:
      workdir: folder of the run.
      task: the experiment.
      dataset: its data.

    Returns:
      The writer of these files, into `workdir/pictures`.

    Raises:
      UserError: the folder cannot be written to, or a picture there belongs to the user.
    """
    names = [CURVES, *task.pictures, *_examples(task, dataset).values()]
    return Outputs(workdir / FOLDER, [(x, "the run") for x in names], flag=None)


def plot_run(
    workdir: Path,
    task: Task,
    variables: Mapping[str, Any],
    dataset: Dataset,
    report: Report,
) -> list[Path]:
    """Plots `curves.png`, and what the task plots of its report and of some records.

    Args:
      workdir: folder of the run; its log is read.
      task: the experiment.
      variables: collections of the trained model.
      dataset: its data.
      report: of the last evaluation.

    Returns:
      The files written, in `workdir/pictures`.

    Raises:
      UserError: as `plan_pictures` does.
    """
    outputs = plan_pictures(workdir, task, dataset)
    outputs.make_folder()
    examples = _examples(task, dataset)
    names = [CURVES, *task.pictures, *examples.values()]
    task.plot(outputs, examples, variables, dataset, report)
    with outputs.file(CURVES) as file:  # the last: who finds it finds all of them
        plot_curves(read_rows(workdir / LOG), file)
    return [outputs.folder / name for name in names]


def render_pictures(
    task: Task, variables: Mapping[str, Any], dataset: Dataset, report: Report
) -> dict[str, bytes]:
    """Plots what `plot_run` plots besides the curves, into no folder of the user.

    Args:
      task: the experiment.
      variables: collections of the model.
      dataset: its data.
      report: of an evaluation.

    Returns:
      PNG files by name.
    """
    examples = _examples(task, dataset)
    names = [*task.pictures, *examples.values()]
    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(
            Path(folder) / FOLDER, [(x, "the run") for x in names], flag=None
        )
        outputs.make_folder()
        task.plot(outputs, examples, variables, dataset, report)
        return {name: (outputs.folder / name).read_bytes() for name in names}


def _examples(task: Task, dataset: Dataset) -> dict[int, str]:
    """Places of the records that are plotted, and the names of their pictures."""
    split = task.evaluation.split
    count = len(dataset.splits[split])
    places = np.linspace(0, count - 1, min(count, EXAMPLES)).astype(int)
    return {i: f"{split}_{i:03d}.png" for i in np.unique(places).tolist()}
