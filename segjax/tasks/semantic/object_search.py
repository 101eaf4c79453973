"""Searching for the values by which objects are found, on images that number theirs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.data.intensities import RecordScales
from segjax.data.normalization import ImageNormalization
from segjax.metrics.matching_f1 import matching_counts, matching_metrics
from segjax.objects.separation import Separation, separate
from segjax.predict.scaled import ScaledImage
from segjax.tasks.semantic.evaluate import Pages
from segjax.training.progress import Progress
from segjax.types import Record

log = logging.getLogger("segjax")

_GRID: Mapping[str, Sequence[Any]] = {
    "depth": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
    "threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "min_area": (0, 10, 20, 40, 80, 160),
}
_ROUNDS = 2

FEW_IMAGES, FEW_OBJECTS = 5, 50
"""With fewer of either, what is best on them may be worse on others, and that is logged."""


class ObjectScene(NamedTuple):
    """One image of the search, as files.

    Attributes:
      cells: number of the object of each pixel, integers `[H, W]` as in the record.
      probabilities: what the network gave, `[H, W, K]` float16.
    """

    cells: Path
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


def predict_object_scenes(
    predictor: Pages,
    records: Sequence[Record],
    places: Sequence[int],
    normalization: ImageNormalization,
    folder: Path,
) -> list[ObjectScene]:
    """Predicts the images of the search once, and keeps what it needs in files.

    Args:
      predictor: of the network.
      records: of a split; their objects are numbered.
      places: of the images in the split; each is read when it is predicted.
      normalization: of the images.
      folder: for the files.

    Returns:
      A scene for each place.
    """
    scales = RecordScales(records, normalization)
    scenes = [
        ObjectScene(folder / f"cells_{i}.npy", folder / f"probabilities_{i}.npy")
        for i in places
    ]

    def images() -> Iterator[ScaledImage]:
        for i, scene in zip(places, scenes, strict=True):
            record = records[i]
            np.save(scene.cells, record["cells"])
            yield ScaledImage(record["image"], scales(i, record))

    pages = predictor.pages(images(), ("probabilities",))
    for scene, page in zip(scenes, pages, strict=True):
        np.save(scene.probabilities, page["probabilities"].astype(np.float16))
    return scenes


def tune_separation(scenes: Sequence[ObjectScene], start: Separation) -> Found:
    """Changes one value after the other to the best of a grid, twice through all.

    Args:
      scenes: the images.
      start: the values to begin with; the border stays.

    Returns:
      The best values, and what they gain.
    """
    objects = sum(np.count_nonzero(np.unique(np.load(x.cells))) for x in scenes)
    if len(scenes) < FEW_IMAGES or objects < FEW_OBJECTS:
        log.warning(
            "The values are fitted to few images (%d) or objects (%d): that is weak evidence, "
            "and they may do worse on others.",
            *(len(scenes), objects),
        )
    known: dict[Separation, float] = {}
    progress = Progress(_ROUNDS * sum(map(len, _GRID.values())), unit="settings")

    def score(separation: Separation) -> float:
        if separation not in known:
            known[separation] = _mean_f1(scenes, separation)
        return known[separation]

    best, done = start, 0
    first = score(start)
    for _ in range(_ROUNDS):
        for key, values in _GRID.items():
            for value in values:
                candidate = dataclasses.replace(best, **{key: value})
                if score(candidate) > score(best):
                    best = candidate
                done += 1
                progress.update(done)
    progress.close()
    return Found(best, first, score(best))


def _mean_f1(scenes: Sequence[ObjectScene], separation: Separation) -> float:
    counts = [
        matching_counts(
            np.load(scene.cells),
            separate(np.load(scene.probabilities).astype(np.float32), separation),
        )
        for scene in scenes
    ]
    return float(np.nan_to_num(matching_metrics(counts)["mean_f1"]))
