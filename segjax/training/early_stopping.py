"""When a run ends before its last step, as it does not get better any more."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError, suggestion
from segjax.metrics.direction import NEITHER, score
from segjax.types import is_count

Evaluation = tuple[int, Mapping[str, float | None]]
"""A step, and what was measured there."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The rule: a run ends once so many evaluations in a row have not been better.

    It looks at the evaluations in the log alone, so a resumed run ends where one does that was
    never stopped.

    Attributes:
      patience: how many evaluations in a row may be no better than the best before them.
      min_delta: by how much an evaluation has to be better than the best, to count as better.
      metric: what is compared; None for `config.evaluation.best_metric`.

    Example:
      >>> rule = EarlyStopping(patience=2, metric="mean_iou")
      >>> found = [(10, 0.5), (20, 0.75), (30, 0.7)]
      >>> evaluations = [(step, {"mean_iou": value}) for step, value in found]
      >>> rule.reason(evaluations) is None
      True
      >>> rule.reason([*evaluations, (40, {"mean_iou": 0.75})])
      'mean_iou has not been better than 0.75, of step 20, in 2 evaluations'
    """

    patience: int
    min_delta: float = 0.0
    metric: str | None = None

    def __post_init__(self) -> None:
        if not is_count(self.patience):
            raise ValueError(
                f"patience is {self.patience!r}: it is a number of evaluations, at least 1"
            )
        delta = self.min_delta
        if not isinstance(delta, int | float) or not 0 <= delta < math.inf:
            raise ValueError(f"min_delta is {delta!r}: it must be a number, at least 0")
        if self.metric in NEITHER:
            raise ValueError(f"metric is {self.metric!r}, of which no value is better")

    def reason(self, evaluations: Iterable[Evaluation]) -> str | None:
        """Why a run with these evaluations ends; None where it goes on.

        Args:
          evaluations: all so far, in the order of steps.

        Returns:
          Half a sentence, or None. What is undefined is no better than anything.
        """
        assert self.metric is not None
        best, found, waited = -math.inf, None, 0
        for step, metrics in evaluations:
            value = score(metrics, self.metric)
            if value > best + self.min_delta:
                best, found, waited = value, (step, metrics[self.metric]), 0
            else:
                waited += 1
        if waited < self.patience:
            return None
        than = (
            f"better than {found[1]:.6g}, of step {found[0]}," if found else "defined"
        )
        return f"{self.metric} has not been {than} in {waited} evaluations"

    def require_metric(self, metrics: Collection[str]) -> None:
        """Checks that the metric is among those that are measured.

        Raises:
          UserError: if it is not.
        """
        if self.metric not in metrics:
            raise UserError(
                f"config.early_stopping.metric is {self.metric!r}, which is not measured."
                f"{suggestion(str(self.metric), metrics)}"
            )


def early_stopping_of(
    config: ml_collections.ConfigDict, best_metric: str
) -> EarlyStopping | None:
    """The rule of `config.early_stopping`; None where there is none.

    Args:
      config: the experiment.
      best_metric: what is compared where the rule names nothing else.

    Returns:
      The rule, with its metric.

    Raises:
      UserError: if a key or a value is wrong.
    """
    if not config.get("early_stopping"):
        return None
    rule = config_lib.call(
        EarlyStopping, config.early_stopping, "config.early_stopping"
    )
    return dataclasses.replace(rule, metric=rule.metric or best_metric)


def check_metric_names(
    config: ml_collections.ConfigDict, best_metric: str, known: Collection[str]
) -> None:
    """Checks the metrics that a config names, before its data are opened.

    What is measured of each class has the names of the classes, which the data set gives: of
    these, such as "iou/cell", only the part before the "/" is looked at.

    Args:
      config: the experiment.
      best_metric: the metric that marks the best checkpoint.
      known: what is measured of any data set whose classes have any names.

    Raises:
      UserError: if a metric cannot be among them, or `config.early_stopping` is wrong.

    Example:
      >>> experiment = ml_collections.ConfigDict({"early_stopping": {"patience": 2}})
      >>> check_metric_names(experiment, "iou/cell", {"mean_iou", "iou/0", "iou/1"})
    """
    families = {name.partition("/")[:2] for name in known if "/" in name}
    known = {name for name in known if "/" not in name}
    stopping = early_stopping_of(config, best_metric)
    named = {"evaluation.best_metric": best_metric}
    if stopping is not None and stopping.metric is not None:
        named["early_stopping.metric"] = stopping.metric
    for key, name in named.items():
        if name not in known and name.partition("/")[:2] not in families:
            raise UserError(
                f"config.{key} is {name!r}, which is not measured."
                f"{suggestion(name, known)}"
            )


def evaluations_in(
    rows: Iterable[Mapping[str, Any]], split: str, last_step: int
) -> list[Evaluation]:
    """The evaluations of a split in the rows of a log, up to a step.

    Example:
      >>> rows = [{"step": 2, "split": "train"}, {"step": 4, "split": "test", "x": 1.0}]
      >>> evaluations_in(rows, "test", 4)
      [(4, {'step': 4, 'split': 'test', 'x': 1.0})]
    """
    return [
        (row["step"], row)
        for row in rows
        if row["split"] == split and row["step"] <= last_step
    ]
