"""Searching for the values by which objects are found, on images that number theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.data.files.images import normalize
from segjax.metrics.matching_f1 import matching_counts, matching_metrics
from segjax.objects.separation import Separation, separate
from segjax.tasks.semantic.evaluate import Pages
from segjax.training.progress import Progress
from segjax.types import Record

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of IoU; the score is the mean F1 over them."""

_GRID: Mapping[str, Sequence[Any]] = {
    "depth": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
    "threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "inside_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "min_area": (0, 10, 20, 40, 80, 160),
}
_ROUNDS = 2


class Scene(NamedTuple):
    """One image of the search.

    Attributes:
      cells: number of the object of each pixel, `[H, W]`.
      probabilities: the file of what the network gave, `[H, W, K]` float16.
    """

    cells: np.ndarray
    probabilities: Path


class Found(NamedTuple):
    """The outcome of a search.

    Attributes:
      separation: the best values.
      start: mean F1 of those that it began with.
      best: mean F1 of the best.
    """

    separation: Separation
    start: float
    best: float


def predict_scenes(
    predictor: Pages, records: Sequence[Record], normalization: str, folder: Path
) -> list[Scene]:
    """Predicts the images of the search once, and keeps the probabilities in files.

    Args:
      predictor: of the network.
      records: images whose objects are numbered.
      normalization: of the images.
      folder: for the files.

    Returns:
      A scene for each record.
    """
    images = (normalize(record["image"], normalization) for record in records)
    scenes: list[Scene] = []
    pages = predictor.pages(images, ("probabilities",))
    for record, page in zip(records, pages, strict=True):
        path = folder / f"{len(scenes)}.npy"
        np.save(path, page["probabilities"].astype(np.float16))
        scenes.append(Scene(np.asarray(record["cells"]).astype(np.int64), path))
    return scenes


def tune_separation(scenes: Sequence[Scene], start: Separation) -> Found:
    """Changes one value after the other to the best of a grid, twice through all.

    Args:
      scenes: the images.
      start: the values to begin with; the border stays.

    Returns:
      The best values, and what they gain.
    """
    keys = [k for k in _GRID if k != "inside_threshold" or start.border is not None]
    known: dict[Separation, float] = {}
    progress = Progress(_ROUNDS * sum(len(_GRID[key]) for key in keys), unit="settings")

    def score(separation: Separation) -> float:
        if separation not in known:
            known[separation] = _mean_f1(scenes, separation)
        return known[separation]

    best, done = start, 0
    first = score(start)
    for _ in range(_ROUNDS):
        for key in keys:
            for value in _GRID[key]:
                candidate = dataclasses.replace(best, **{key: value})
                if score(candidate) > score(best):
                    best = candidate
                done += 1
                progress.update(done)
    progress.close()
    return Found(best, first, score(best))


def _mean_f1(scenes: Sequence[Scene], separation: Separation) -> float:
    counts = [
        matching_counts(
            scene.cells,
            separate(np.load(scene.probabilities).astype(np.float32), separation),
            THRESHOLDS,
        )
        for scene in scenes
    ]
    return float(np.nan_to_num(matching_metrics(counts, THRESHOLDS)["mean_f1"]))
