"""Measuring a checkpoint of a run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.data.dataset import Dataset
from segjax.errors import UserError, shown
from segjax.output.folder import Outputs
from segjax.output.manifest import NAME as MANIFEST
from segjax.remote.copies import with_copies
from segjax.runs.ensemble import load_ensemble
from segjax.runs.load import TrainedModel
from segjax.runs.other_data import open_other
from segjax.runs.predict import channels_of_images
from segjax.training import sharding
from segjax.training.about import TRAIN_IMAGES, about_run, image_hashes
from segjax.training.experiment import open_labelled
from segjax.training.task import require

log = logging.getLogger("segjax")


@with_copies(read=["input", "data_root"], write=["output"], first=MANIFEST)
def evaluate_run(
    workdir: str | Path,
    *,
    split: str | None = None,
    input: str | None = None,
    channels: Sequence[int | str] | None = None,
    pages: Sequence[int] = (),
    data: str | Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    save_predictions: bool = False,
    overwrite: bool = False,
    best: bool = False,
    step: int | None = None,
    measure: Sequence[str] = (),
    tile: int | None = None,
    baseline: bool | None = None,
    crf: bool = False,
    cache_dir: str | None = None,
    data_root: str | None = None,
    allow_code: Collection[str] = (),
    ensemble: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Measures a checkpoint of a run on a split of its data set, or on another folder.

    Args:
      workdir: the folder of the run.
      split: the split; by default the one that is evaluated during training.
      input: a labelled folder, of which all images are measured instead of a split.
      channels: which are taken of the images of `input`, by number from 0 or by name; None:
        as in training.
      pages: numbers of those that are measured of each file of `input`, from 1; empty for
        all.
      data: another data set than that of the run: its name, a config file, and a preset
        after a colon, or a group `config.data`. It has to have as many classes and channels.
      output: a folder for `per_image.csv` and pictures of the worst images; None: neither
        is written.
      save_predictions: whether what is predicted of each image is written there, too.
      overwrite: whether files there are replaced that segjax did not write, or that were
        changed since.
      best: whether the best checkpoint is measured instead of the newest.
      step: the step of the checkpoint, if neither of those.
      measure: what is measured besides: keys of `config.evaluation` that are switches, such
        as "calibration", and metrics from outside.
      tile: output side of a tile in pixels; None for that of the config.
      baseline: whether baselines without a network are measured, too: Otsu's threshold for
        two classes in grey images, that and a watershed for objects, elsewhere the
        commonest class at each place. None: where cells in grey images lie on a
        background.
      crf: whether `config.crf` of the run refines the predictions.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.
      allow_code: packages whose code may be imported where the config of the run names it.
      ensemble: further runs, whose probabilities are averaged with those of the first.

    Returns:
      `step`, `split` ("all" for a folder), `images`, how many were measured,
      `parameters_sha256`, with a CRF its values as `crf`, and every metric by name; those of
      the baseline as `otsu/<name>`, `watershed/<name>` or `position/<name>`.

    Raises:
      UserError: for anything that the user can put right.
    """
    _check_flags(split, input, data, output, save_predictions=save_predictions)
    for flag, given in (("channels", channels), ("pages", pages)):
        if given and input is None:
            raise UserError(
                f"--{flag} is about the images of a folder: give --input, too."
            )
    trained = load_ensemble(
        (workdir, *ensemble), best=best, step=step, allow_code=allow_code
    )
    task, variables = trained.task, trained.variables
    task.measure_also(measure)
    refinement = trained.refinement() if crf else None
    places = cache_dir, data_root
    if data is not None:
        dataset = open_other(trained, data, *places)
        split = task.evaluation.split if split is None else split
    elif input is None:
        dataset = task.open_dataset(*places)
        split = task.evaluation.split if split is None else split
        _check_not_learned(trained, dataset, split, workdir)
    else:
        dataset = _labelled(trained, input, cache_dir, channels, pages)
        split = "all"
    count = len(task.records(dataset, split))
    if (other := input if data is None else f"--data={data}") is not None:
        _warn_of_train_images(trained, dataset, split, other)
    table = outputs = None
    if output is not None:
        table = require(task, "per_image", "--output").per_image(dataset, split)
        outputs = _outputs(table.files, Path(output), overwrite)
        if save_predictions:
            outputs.make_folder()
            table.save_predictions(outputs)
    # Class weights of the loss are those of the run's own training images.
    measured = (
        dataset
        if data is None
        else dataclasses.replace(dataset, splits={split: dataset.splits[split]})
    )
    report = task.evaluate(
        variables, measured, split, tile=tile, crf=refinement, per_image=table
    )
    _log_count(dataset, split, count, input)
    if table is not None and outputs is not None:
        outputs.make_folder()
        table.write(outputs)
    if baseline is None:
        baseline = task.has_default_baseline(dataset, split)
    below = task.baseline(dataset, split) if baseline else {}
    return {
        "step": trained.step,
        "split": split,
        "images": count,
        "parameters_sha256": trained.parameters_sha256,
        **({"crf": dataclasses.asdict(refinement)} if refinement else {}),
        **report.metrics,
        **below,
    }


def _check_flags(
    split: str | None,
    input: str | None,
    data: str | Mapping[str, Any] | None,
    output: str | Path | None,
    *,
    save_predictions: bool,
) -> None:
    """Checks that arguments of `evaluate_run` do not contradict each other."""
    if input is not None and split is not None:
        raise UserError(
            f"--input={input} measures all images of a folder, so that --split={split} "
            "has no meaning: give one of them."
        )
    if input is not None and data is not None:
        raise UserError(
            f"--input={input} and --data={shown(data)} both say what is measured: give one "
            "of them."
        )
    if save_predictions and output is None:
        raise UserError(
            "--save_predictions needs --output=..., the folder to write to."
        )


def _check_not_learned(
    trained: TrainedModel, dataset: Dataset, split: str, workdir: str | Path
) -> None:
    """Checks that no fold is measured on images that it has seen."""
    task = trained.task
    if trained.folds > 1 and split in ("train", task.evaluation.split):
        raise UserError(
            f"--workdir={workdir} holds {trained.folds} folds, each trained on images of "
            f'the split "{split}" that another one validates: folds.json has their '
            "figures. Measure images that none has seen, with --input=FOLDER or "
            "--split=test."
        )
    if split in ("train", task.evaluation.split):
        _check_fold(trained, dataset)


def _labelled(
    trained: TrainedModel,
    input: str,
    cache_dir: str | None,
    channels: Sequence[int | str] | None,
    pages: Sequence[int],
) -> Dataset:
    """The images of a folder that is no data set of the run."""
    config = trained.task.config
    factor = config.data.get("downscale", 1)
    if factor != 1:
        raise UserError(
            f"--input measures images of the size that they have, but this run was trained "
            f"on images that were made smaller (config.data.downscale={factor}): measure "
            "a split of its data set, with --split."
        )
    percentiles = config.pipeline.get("percentiles") or {}
    if pages and percentiles.get("over") == "stack":
        raise UserError(
            "--pages leaves out pages, but the brightness of each is that of its whole stack "
            '(config.pipeline.percentiles.over="stack"): measure all pages.'
        )
    places = tuple(page - 1 for page in pages)
    chosen = channels_of_images(trained, channels)
    return open_labelled(config, trained, input, cache_dir, chosen, places)


def _warn_of_train_images(
    trained: TrainedModel, dataset: Dataset, split: str, input: str
) -> None:
    """Says that the network has learned some of the images that are measured."""
    learned = set(trained.about.get(TRAIN_IMAGES, ()))
    if not learned:
        return
    known = sum(digest in learned for digest in image_hashes(dataset, split))
    if known:
        log.warning(
            "%d of the %d images of %s are those of training, which say nothing about "
            "others: leave them out to measure how well new images go.",
            *(known, len(dataset.splits[split]), input),
        )


def _check_fold(trained: TrainedModel, dataset: Dataset) -> None:
    """Checks that a fold trains on the images of training, by their hashes; else it is another."""
    task = trained.task
    if "fold" not in task.config:
        return
    records = trained.about.get("records") or {}
    counts = {split: facts["count"] for split, facts in records.items()}
    counts |= trained.about.get("images", {})  # what a model file has in its place
    splits = ("train", task.evaluation.split)
    before = [counts.get(split, 0) for split in splits]
    now = [len(dataset.splits[split]) for split in splits]
    learned = set(trained.about.get(TRAIN_IMAGES, ()))
    hashes = image_hashes(dataset, "train")
    if now != before:
        what = f"there are {sum(now)} now, which are divided otherwise"
    elif learned and hashes:
        new = sum(digest not in learned for digest in hashes)
        what = (
            f"{new} of the images that this fold trains on now are others"
            if new
            else ""
        )
    else:  # too many to hash each
        found = about_run(task.config, dataset)["records"]
        changed = records and any(found[x] != records[x] for x in splits)
        what = "some of them are others now" if changed else ""
    if what:
        raise UserError(
            f"This network was trained on a fold of {sum(before)} labelled images, but "
            f"{what}: it may have seen those that would be measured. Measure images that it "
            "has not seen, with --input=FOLDER."
        )


def _outputs(files: Sequence[str], folder: Path, overwrite: bool) -> Outputs:
    """Checks that the table of single images can be written."""
    if sharding.process_count() > 1:
        raise UserError(
            "--output is for one process: evaluate with --distributed=off, once."
        )
    return Outputs(folder, [(x, "the evaluation") for x in files], overwrite=overwrite)


def _log_count(dataset: Dataset, split: str, count: int, input: str | None) -> None:
    """Says how many of the images that there are were measured."""
    total = sum(len(records) for records in dataset.splits.values())
    where = f'the split "{split}"' if input is None else input
    hint = "" if count == total else "; --input=FOLDER measures all that have labels"
    log.info("Measured %d of %d images (%s)%s.", count, total, where, hint)
