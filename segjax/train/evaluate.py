"""Measuring a network on a split: every image whole, and exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from segjax.data.images import normalize
from segjax.data.label_spec import LabelSpec
from segjax.errors import suggestion
from segjax.metrics import (
    EM_COLUMNS,
    THRESHOLDS,
    confusion_counts,
    em_metrics,
    semantic_metrics,
    summarize,
)
from segjax.train import sharding
from segjax.types import Record, UserError


@dataclass(frozen=True)
class Evaluation:
    """What an experiment measures.

    Attributes:
      split: the split that is evaluated during training.
      best_metric: the metric whose highest value marks the best checkpoint.
      tile: output side of the tiles in pixels; None chooses one, 0 is the whole image.
      cell_class: where given, the class of cells in electron microscopy: pixel, Rand
        and warping errors are then reported, too.
      symmetries: whether evaluation and prediction average the probabilities over the
        image's flips and quarter turns, at eight times the cost.
    """

    split: str = "validation"
    best_metric: str = "mean_iou"
    tile: int | None = None
    cell_class: int | None = None
    symmetries: bool = False

    def check(self, label_spec: LabelSpec) -> None:
        """Checks the class and the metric that are named.

        Raises:
          UserError: if the data set has no such class, or there is no such metric.
        """
        classes = label_spec.num_classes
        if self.cell_class is not None and not 0 <= self.cell_class < classes:
            raise UserError(
                f"config.evaluation.cell_class is {self.cell_class}: the classes of the "
                f"data set are 0 to {classes - 1}."
            )
        known = set(semantic_metrics(np.eye(classes, dtype=np.int64), label_spec.names))
        if self.cell_class is not None:
            known |= summarize(
                np.ones((1, 1 + len(THRESHOLDS), len(EM_COLUMNS)))
            ).keys()
        if self.best_metric not in known:
            raise UserError(
                f"config.evaluation.best_metric is {self.best_metric!r}, which is not "
                f"measured.{suggestion(self.best_metric, known)}"
            )


@dataclass(frozen=True)
class Report:
    """The outcome of an evaluation.

    Attributes:
      metrics: by name; NaN where a metric is undefined.
      counts: the confusion counts `[K, K]`, rows are the truth.
    """

    metrics: dict[str, float]
    counts: np.ndarray


class Pages(Protocol):
    """What can be evaluated: `segjax.predict.tiled.Predictor`, or a baseline."""

    def pages(
        self, images: Iterable[np.ndarray], forms: Sequence[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields `labels` `[H, W]` and `probabilities` `[H, W, K]` of each image."""
        ...


def evaluate(
    predictor: Pages,
    records: Sequence[Record],
    label_spec: LabelSpec,
    *,
    split: str,
    normalization: str,
    cell_class: int | None = None,
) -> Report:
    """Predicts each image of a split by overlap-tile and compares it with its label.

    The images are dealt out to the processes; the counts of all are added before any
    ratio is taken, so the result does not depend on how many there are.

    Args:
      predictor: the network.
      records: images with labels.
      label_spec: names of the classes.
      split: their name, for messages.
      normalization: how images are normalised, as in training.
      cell_class: the class of cells, where the errors of electron microscopy are
        wanted, too.

    Returns:
      The metrics and the confusion counts.

    Raises:
      UserError: if the split has no records or no labels.
    """
    if not len(records):
        raise UserError(f'The split "{split}" has no images to evaluate.')
    if "label" not in records[0]:
        raise UserError(
            f'The split "{split}" has no labels: it can be predicted, not evaluated.'
        )
    num_classes = label_spec.num_classes
    total = np.zeros((num_classes, num_classes), np.int64)
    sections = np.zeros((1 + len(THRESHOLDS), len(EM_COLUMNS)))
    mine = range(sharding.process_index(), len(records), sharding.process_count())
    images = (normalize(records[i]["image"], normalization) for i in mine)
    forms = ("labels",) if cell_class is None else ("labels", "probabilities")
    pages = predictor.pages(images, forms)
    for i, page in zip(mine, pages, strict=True):
        label = np.asarray(records[i]["label"])
        total += np.asarray(_counts(label, page["labels"], num_classes=num_classes))
        if cell_class is not None:
            cells = page["probabilities"][..., cell_class]
            sections += em_metrics(cells, label, cell_class=cell_class)
    counts = sharding.gather(total[None]).sum(0)
    metrics = semantic_metrics(counts, label_spec.names)
    if cell_class is not None:
        everyone = sharding.gather(sections[None]).sum(0, keepdims=True)
        metrics |= summarize(everyone)
    return Report(metrics, counts)


_counts = jax.jit(confusion_counts, static_argnames="num_classes")
