"""Predicting with a trained network: from a run's folder to label files."""

from __future__ import annotations

import logging
from pathlib import Path

from segjax.runs.load import Trained, load_trained
from segjax.tasks.instance.files import Finder, predict_instance_files
from segjax.tasks.instance.task import InstanceTask
from segjax.tasks.semantic.files import Progress as Callback
from segjax.tasks.semantic.files import predict_files
from segjax.tasks.table import semantic
from segjax.training.progress import Progress

log = logging.getLogger("segjax")


def page_progress() -> Callback:
    """Makes what shows how many pages are done, and how long the others will take."""
    bars: list[Progress] = []

    def show(done: int, total: int, name: str) -> None:
        if not bars:
            bars.append(Progress(total, unit="pages"))
        bars[0].update(done)
        if done == total:
            bars[0].close()

    return show


def finder(trained: Trained, *, tile: int | None = None) -> Finder:
    """Makes what finds objects in images of any size, with a network that was trained.

    Args:
      trained: a run with objects.
      tile: side of a tile in pixels of the image, 0 for whole images; None chooses one.

    Returns:
      The function of an image.
    """
    task = trained.task
    if not isinstance(task, InstanceTask):
        raise ValueError("trained must be a run that finds objects")
    return Finder(
        task.detector(trained.variables),
        task.detector_batch_size,
        task.evaluated_buckets,
        task.resize,
        task.evaluation.mask_threshold,
        task.evaluation.least_score,
        tile=tile,
    )


def predict_run(
    workdir: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    best: bool = False,
    tile: int | None = None,
    probabilities: bool = False,
    overlay: bool = False,
    crf: bool = False,
    downscale: int | None = None,
    overwrite: bool = False,
    progress: Callback | None = None,
) -> list[Path]:
    """Labels image files with a checkpoint of a run.

    Of a network that finds objects the label files number them, and `results.json`
    tells them in COCO's form (`segjax.tasks.instance.files`). Where the data set of the run
    made images smaller, so are these, by the same factor, and their labels enlarged again.

    Args:
      workdir: the folder of the run.
      input: an image, a stack, or a folder of them.
      output: the folder to write to.
      best: whether the best checkpoint predicts instead of the newest.
      tile: output side of a tile in pixels, 0 for whole images; None chooses one.
      probabilities: whether probabilities are written, too.
      overlay: whether overlays are written, too.
      crf: whether `config.crf` of the run refines the predictions.
      downscale: factor by which images are made smaller for the network; None: that of
        the run's data set. Tiles are pixels of the smaller images.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.
      progress: told about each finished page.

    Returns:
      The label files.

    Raises:
      UserError: for anything that a person can put right.
    """
    trained = load_trained(workdir, best=best)
    if isinstance(trained.task, InstanceTask):
        for name, wanted in (
            ("--probabilities", probabilities),
            ("--crf", crf),
            ("--downscale", downscale is not None),
        ):
            if wanted:
                semantic(trained.task, name)
        log.info(
            "Objects of a score of %g and more are kept: config.evaluation.least_score.",
            trained.task.evaluation.least_score,
        )
        *labels, _ = predict_instance_files(
            finder(trained, tile=tile),
            input,
            output,
            label_spec=trained.label_spec,
            instances=trained.instances,
            channels=trained.channels,
            overlay=overlay,
            overwrite=overwrite,
            progress=progress,
        )
        return labels
    task = semantic(trained.task, "predict")
    factor = task.downscale if downscale is None else downscale
    if downscale is None and factor > 1:
        log.info(
            "Images are predicted at 1/%d of their size, as in training "
            "(config.data.downscale); labels are of their full size. Files that are as "
            "small already want --downscale=1.",
            factor,
        )
    return predict_files(
        task.predictor(trained.variables, tile=tile),
        input,
        output,
        label_spec=trained.label_spec,
        channels=trained.channels,
        normalization=task.normalization,
        probabilities=probabilities,
        overlay=overlay,
        crf=trained.refinement() if crf else None,
        downscale=factor,
        overwrite=overwrite,
        progress=progress,
    )
