"""The report of a run, or of an evaluation of one of its checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from segjax.output.folder import Outputs
from segjax.runs.load import load_trained
from segjax.training.run_files.report import REPORT, report_page


def report_run(
    workdir: str | Path,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    best: bool = False,
    step: int | None = None,
    measure: Sequence[str] = (),
    tile: int | None = None,
    cache_dir: str | None = None,
    data_root: str | None = None,
    overwrite: bool = False,
    allow_code: Collection[str] = (),
) -> Path:
    """Measures a checkpoint on a split, image by image, and writes a page of HTML.

    Args:
      workdir: the folder of the run.
      output: the file; None for `report.html` in that folder.
      split: the split; by default the one that is evaluated during training.
      best: whether the best checkpoint is measured instead of the newest.
      step: the step of the checkpoint, if neither of those.
      measure: what is measured besides: keys of `config.evaluation` that are switches, such
        as "calibration", and metrics from outside.
      tile: output side of a tile in pixels; None for that of the config.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.
      overwrite: whether a file is replaced that segjax did not write.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      The file.

    Raises:
      UserError: if there is no such run or split, or the file cannot be written.
    """
    workdir = Path(workdir)
    trained = load_trained(workdir, best=best, step=step, allow_code=allow_code).single(
        "report"
    )
    task = trained.task
    task.measure_also(measure)
    path = Path(output) if output else workdir / REPORT
    planned = [(path.name, workdir)]
    outputs = Outputs(path.parent, planned, overwrite=overwrite)
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    report = task.evaluate(trained.variables, dataset, split, tile=tile)
    page = report_page(
        workdir,
        task,
        trained.variables,
        dataset,
        report,
        split=split,
        step=trained.step,
        tile=tile,
    )
    outputs.make_folder()
    with outputs.file(path.name) as file:
        file.write(page.encode())
    return path
