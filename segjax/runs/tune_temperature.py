"""Fitting the temperature of a run, so that its probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.intensities import RecordScales
from segjax.errors import UserError
from segjax.metrics.calibration import (
    calibration_counts,
    calibration_metrics,
    fit_temperature,
    negative_log_likelihood,
)
from segjax.predict.scaled import ScaledImage
from segjax.runs.load import load_trained
from segjax.runs.tuned_values import keep, require_writable, spread_places
from segjax.training.task import require
from segjax.types import IGNORE_LABEL, Record

PIXELS_OF_AN_IMAGE = 20_000
"""As many of an image are looked at, at most; they are chosen at random, always the same."""


def tune_temperature_run(
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
    """Fits `config.calibration` of a run, on a split of its data set.

    Guo et al. 2017, arXiv 1706.04599: the temperature by which logits are divided is that of
    the least negative log-likelihood of images that training has not seen.

    Args:
      workdir: the folder of the run.
      split: with labels; by default the one that is evaluated during training.
      best: whether the best checkpoint predicts instead of the newest.
      step: the step of the checkpoint, if neither of those.
      num_images: how many images of the split, evenly spread over it.
      save: whether the value is written into the run's config.
      allow_code: packages whose code may be imported where the config of the run names it.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      `step`, `split`, `images`, `pixels`, the expected calibration error and the negative
      log-likelihood before, as `before/expected_calibration_error` and so on, and after as
      `tuned/...`, and the value as `calibration`.

    Raises:
      UserError: for anything that the user can put right; before the images are predicted,
        where `save` is wanted and the run cannot be written.
    """
    workdir = Path(workdir)
    if save:
        require_writable(workdir)
    trained = load_trained(workdir, best=best, step=step, allow_code=allow_code)
    task = require(trained.task, "probabilities", "tune temperature")
    if task.head.overlaps:
        raise UserError(
            f"{workdir} has classes that overlap, whose probabilities no temperature of a "
            "softmax fits: tune temperature is for classes that exclude each other."
        )
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    if trained.folds > 1 and split in ("train", task.evaluation.split):
        trained.single("tune temperature")  # each fold has seen images of the others
    records = task.records(dataset, split)
    if "label" not in records[0]:
        raise UserError(f'The split "{split}" has no labels to compare with.')
    places = spread_places(len(records), num_images)
    predictor = task.predictor(trained.variables, tile=task.evaluation.tile)
    logits, label = _pixels(predictor, records, places, task.normalization)
    if not len(label):
        raise UserError(f'The images of the split "{split}" have no pixel that counts.')
    factor = fit_temperature(logits, label)
    # What is predicted is at the temperature that the run has already.
    temperature = round(task.calibration.temperature * factor, 4)
    values = {"temperature": temperature}
    if save:
        keep(workdir, "calibration", values)
    found = {"before": _measured(logits, label, 1.0)}
    found["tuned"] = _measured(logits, label, factor)
    return {
        "step": trained.step,
        "split": split,
        "images": len(places),
        "pixels": len(label),
        **{f"{when}/{k}": v for when, x in found.items() for k, v in x.items()},
        "calibration": values,
    }


def _pixels(
    predictor: Any, records: Sequence[Record], places: Sequence[int], method: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[N, K]` and labels `[N]` of pixels of some images."""
    scales = RecordScales(records, method)
    labels: list[np.ndarray] = []

    def images() -> Iterator[ScaledImage]:
        for i in places:
            record = records[i]
            labels.append(np.asarray(record["label"]))
            yield ScaledImage(record["image"], scales(i, record))

    rows = []
    for number, page in enumerate(predictor.pages(images(), ("logits",))):
        label = labels[number].ravel()
        counted = np.flatnonzero(label != IGNORE_LABEL)
        if len(counted) > PIXELS_OF_AN_IMAGE:
            rng = np.random.default_rng(number)
            counted = rng.choice(counted, PIXELS_OF_AN_IMAGE, replace=False)
        logits = page["logits"].reshape(-1, page["logits"].shape[-1])
        rows.append((logits[counted], label[counted]))
    logits, label = (np.concatenate(x) for x in zip(*rows, strict=True))
    return logits, label.astype(np.int64)


def _measured(
    logits: np.ndarray, label: np.ndarray, temperature: float
) -> dict[str, float]:
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(-1, keepdims=True)
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum(-1, keepdims=True)
    counts = calibration_counts(label[None], probabilities[None])
    name = "expected_calibration_error"
    return {
        name: calibration_metrics(counts)[name],
        "negative_log_likelihood": negative_log_likelihood(logits, label, temperature),
    }
