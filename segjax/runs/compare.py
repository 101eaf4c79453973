"""Comparing runs: what differs in their configs, and how sure the differences of figures are.

Runs that differ in nothing but the seed are one setting. The mean of a setting has an interval
over its runs (`t_interval`): what other seeds would give. The difference of two settings has
one over runs (`welch_interval`), and one over images (`paired_bootstrap`): what other images of
the kind would give.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax import config as config_lib
from segjax.errors import UserError, suggestion
from segjax.metrics.intervals import (
    Interval,
    paired_bootstrap,
    t_interval,
    welch_interval,
)
from segjax.runs.measured import MeasuredRun, read_run
from segjax.runs.sweep import MANIFEST, read_manifest
from segjax.runs.sweep_values import short_keys
from segjax.tasks.table import default_metric
from segjax.training.checkpoints.checkpoint_files import steps_on_disk

log = logging.getLogger("segjax")

SEED = "seed"

NOT_SETTINGS = {
    *config_lib.CHANGEABLE,
    config_lib.CHANGEABLE_HOOKS,
    "calibration",
} - {"num_steps"}
"""Keys and groups that do not change what is trained."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing that is compared.

    Attributes:
      label: of the values that other settings do not have.
      values: those, by dotted key; None where a config does not state a key.
      runs: one for each seed.
    """

    label: str
    values: Mapping[str, Any]
    runs: Sequence[MeasuredRun]

    def interval(self, metric: str) -> Interval:
        """The mean of a metric over the runs, and its interval of 95 %."""
        return t_interval([run.metrics[metric] for run in self.runs])

    def of_images(self, metric: str, names: Sequence[str]) -> np.ndarray:
        """The mean over the runs of a figure of each image, `[N]`."""
        rows = [[run.images[name][metric] for name in names] for run in self.runs]
        return np.mean(rows, axis=0)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How a setting differs from the first one.

    Attributes:
      label: of the setting.
      metric: what is compared.
      over_runs: the difference of the means, and its interval: what other seeds would give.
      over_images: the mean difference of single images, and its interval: what other images
        would give; None where that metric is not known of each image.
      images: how many images there are that have this figure in all runs.
    """

    label: str
    metric: str
    over_runs: Interval
    over_images: Interval | None
    images: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Settings beside each other.

    Attributes:
      split: what was measured.
      metrics: those that are compared.
      settings: in the order in which their runs were given.
      differences: of the others to the first.
      unmeasured: how many runs have no figures of single images.
    """

    split: str
    metrics: Sequence[str]
    settings: Sequence[Setting]
    differences: Sequence[Difference]
    unmeasured: int

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON; what is undefined is None."""
        clean = lambda x: None if math.isnan(x) else x
        ends = lambda found: {k: clean(v) for k, v in found._asdict().items()}
        return {
            "split": self.split,
            "settings": [
                {
                    "label": setting.label,
                    "values": dict(setting.values),
                    "runs": [str(run.workdir) for run in setting.runs],
                    "metrics": {
                        metric: {
                            "values": [
                                clean(run.metrics[metric]) for run in setting.runs
                            ],
                            **ends(setting.interval(metric)),
                        }
                        for metric in self.metrics
                    },
                }
                for setting in self.settings
            ],
            "differences": [
                {
                    "label": x.label,
                    "metric": x.metric,
                    "images": x.images,
                    "over_runs": ends(x.over_runs),
                    "over_images": ends(x.over_images) if x.over_images else None,
                }
                for x in self.differences
            ],
        }


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """The folders of runs; that of a sweep stands for those of its runs that have begun.

    Files are left out, as `runs/*` has them, too.

    Raises:
      UserError: if a folder is not there, or none of a sweep's runs has begun.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        if folder.is_file():
            continue
        if (folder / MANIFEST).exists():
            manifest = read_manifest(folder) or {"runs": ()}
            inner = [folder / row["name"] for row in manifest["runs"]]
            runs = [run for run in inner if steps_on_disk(run)]
            if not runs:
                raise UserError(
                    f"No run of the sweep in {folder} has a checkpoint yet."
                )
        else:
            runs = [folder]
        found |= {run.resolve(): run for run in runs}
    return list(found.values())


def compare_runs(
    folders: Sequence[str | Path],
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    split: str | None = None,
) -> Comparison:
    """Compares runs that were measured on the same images.

    Args:
      folders: of runs or sweeps.
      by: dotted keys of the config that tell settings apart; empty for all that differ, but
        the seed.
      metrics: what is compared; empty for that which marks the best checkpoint.
      split: of the images; None for that which is evaluated during training.

    Returns:
      The comparison.

    Raises:
      UserError: if there is no run, they were measured on other images or classes, the same
        run is there twice, or one lacks a metric.
    """
    runs = [read_run(folder, split) for folder in find_runs(folders)]
    if not runs:
        raise UserError("Give the folders of two runs or more, or that of a sweep.")
    _check_same_data(runs)
    metrics = tuple(metrics) or (default_metric(runs[0].config),)
    for run in runs:
        _check_metrics(run, metrics)
        if run.step < run.config.num_steps:
            steps = run.step, run.config.num_steps
            log.warning("%s was measured at step %d of %d.", run.workdir, *steps)
    settings = _settings(runs, by)
    return Comparison(
        runs[0].split,
        metrics,
        settings,
        _differences(settings, metrics),
        sum(not run.images for run in runs),
    )


def _check_same_data(runs: Sequence[MeasuredRun]) -> None:
    """Checks that all runs were measured on the same images, with the same classes."""
    first, seen = runs[0], dict[str, Path]()
    for run in runs:
        both = f"{first.workdir} and {run.workdir}"
        if run.split != first.split:
            raise UserError(
                f'{both} were evaluated on other splits, "{first.split}" and "{run.split}": '
                "name one that both have, with --split and --images."
            )
        for key, what in (("label_spec", "classes"), ("records", "images")):
            theirs, ours = run.about.get(key), first.about.get(key)
            if key == "records":
                theirs, ours = (x and x.get(run.split) for x in (theirs, ours))
            if theirs != ours:
                raise UserError(
                    f"{both} were measured on other {what} ({_said(ours, theirs)}), so that "
                    "their figures cannot be compared."
                )
        parameters = run.about["parameters_sha256"]
        if parameters in seen:
            raise UserError(
                f"{seen[parameters]} and {run.workdir} hold the same network, which counts "
                "once: leave one of them out."
            )
        seen[parameters] = run.workdir


def _said(ours: Any, theirs: Any) -> str:
    """What differs in two descriptions of data."""
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return "one of them does not say which"
    if "count" not in ours:
        return (
            f"{len(ours.get('names', ()))} and {len(theirs.get('names', ()))} of them"
        )
    if ours["count"] != theirs.get("count"):
        return f"{ours['count']} and {theirs.get('count')} of them"
    return f"{ours['count']} each, with other names, pixels or labels"


def _check_metrics(run: MeasuredRun, metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metric not in run.metrics:
            raise UserError(
                f'{run.workdir} has no metric "{metric}".{suggestion(metric, run.metrics)}'
            )


def _settings(runs: Sequence[MeasuredRun], by: Sequence[str]) -> list[Setting]:
    """Puts runs together that differ in the seed alone, or in keys that do not count."""
    flat = [config_lib.flattened(run.config) for run in runs]
    known = {key for config in flat for key in config}
    for key in by:
        if key not in known:
            raise UserError(f"--by={key} is not a key.{suggestion(key, known)}")
    keys = tuple(by) or tuple(
        key
        for key in sorted(known)
        if key.partition(".")[0] not in {SEED, *NOT_SETTINGS}
        and len({repr(config.get(key)) for config in flat}) > 1
    )
    grouped: dict[str, list[int]] = {}
    for i, config in enumerate(flat):
        grouped.setdefault(repr([config.get(key) for key in keys]), []).append(i)
    groups = list(grouped.values())
    values = [{key: flat[group[0]].get(key) for key in keys} for group in groups]
    labels = _labels(values)
    return [
        Setting(label, value, [runs[i] for i in group])
        for label, value, group in zip(labels, values, groups, strict=True)
    ]


LONGEST_LABEL = 48
"""Settings whose values take more characters than this are named by letters."""


def _labels(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names of settings: their values, or letters where those are many.

    Example:
      >>> _labels([{"model.depth": 3}, {"model.depth": 4}])
      ['depth=3', 'depth=4']
    """
    if not values[0]:
        return ["all runs"]
    short = short_keys(values[0])
    labels = [
        ", ".join(f"{short[key]}={value}" for key, value in row.items())
        for row in values
    ]
    if max(map(len, labels)) <= LONGEST_LABEL:
        return labels
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if len(values) <= len(letters):
        return [*letters[: len(values)]]
    return [f"setting {i + 1}" for i in range(len(values))]


def _differences(
    settings: Sequence[Setting], metrics: Sequence[str]
) -> list[Difference]:
    """The differences to the first setting, in each metric."""
    names, measured = _common_images([run for x in settings for run in x.runs])
    first, found = settings[0], []
    for metric in metrics:
        for setting in settings[1:]:
            values = [[run.metrics[metric] for run in x.runs] for x in (first, setting)]
            over_images, count = None, 0
            if metric in measured:
                pair = [x.of_images(metric, names) for x in (first, setting)]
                defined = ~np.isnan(pair).any(axis=0)
                count = int(defined.sum())
                if count:
                    over_images = paired_bootstrap(pair[0][defined], pair[1][defined])
            over_runs = welch_interval(*values)
            found.append(
                Difference(setting.label, metric, over_runs, over_images, count)
            )
    return found


def _common_images(runs: Sequence[MeasuredRun]) -> tuple[list[str], set[str]]:
    """The names of the images, and the figures that all runs have of each; maybe none."""
    if not all(run.images for run in runs):
        return [], set()
    names = sorted(runs[0].images)
    if any(sorted(run.images) != names for run in runs):
        raise UserError(
            "The runs have figures of other images: remove their folders per_image, and add "
            "--images."
        )
    each = ({*run.images[name]} for run in runs for name in names)
    return names, set.intersection(*each)
