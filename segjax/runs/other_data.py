"""Another data set for a run: opened, and compared with what its network knows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError, shown
from segjax.runs.load import TrainedModel
from segjax.training.experiment import open_data

log = logging.getLogger("segjax")


def open_other(
    trained: TrainedModel,
    data: str | Mapping[str, Any],
    cache_dir: str | None,
    data_root: str | None,
) -> Dataset:
    """Opens a data set that a run was not trained on.

    Args:
      trained: the run.
      data: see `segjax.runs.evaluate.evaluate_run`.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      The data set.

    Raises:
      UserError: if files are missing or wrong, or it has other classes or channels.
    """
    config = trained.task.config.copy_and_resolve_references()
    with config.unlocked():
        config.data = ml_collections.ConfigDict(_group(data))
        if "fold" in config:
            del config.fold
    dataset = open_data(config, cache_dir, data_root)
    finds, has = trained.instance_spec is not None, dataset.instances is not None
    if finds != has:
        kinds = {True: "objects", False: "labels of pixels"}
        raise UserError(
            f"--data={shown(data)} has {kinds[has]}, but this run was trained on {kinds[finds]}: "
            "give a data set of the same kind."
        )
    _check_kind(dataset.label_spec, trained.label_spec, shown(data))
    names, known = dataset.label_spec.names, trained.label_spec.names
    if len(names) != len(known):
        raise UserError(
            f"--data={shown(data)} has {len(names)} classes ({_listed(names)}), but this run "
            f"knows {len(known)} ({_listed(known)}): give a data set with the same classes."
        )
    if tuple(names) != tuple(known):
        log.warning(
            "The classes of --data=%s are called %s, and those of the run %s: they are "
            "compared by their numbers.",
            shown(data),
            _listed(names),
            _listed(known),
        )
    if dataset.channels != trained.channels:
        raise UserError(
            f"--data={shown(data)} has images of {dataset.channels} channels, but this run was "
            f"trained on {trained.channels}: give a data set with as many."
        )
    return dataset


def _check_kind(spec: LabelSpec, known: LabelSpec, data: str) -> None:
    """Checks that classes overlap in both data sets, or in neither."""
    overlap = isinstance(spec, OverlappingClasses)
    if overlap != isinstance(known, OverlappingClasses):
        kinds = {True: "overlap", False: "exclude each other"}
        raise UserError(
            f"--data={data} has classes that {kinds[overlap]}, but those of this run "
            f"{kinds[not overlap]}: give a data set of the same kind."
        )


def _group(data: str | Mapping[str, Any]) -> dict[str, Any]:
    """The group `config.data` that is meant."""
    if not isinstance(data, str):
        return dict(data)
    if ".py" not in data:
        return {"name": data}
    try:
        config = config_lib.load(data)
    except UserError as error:  # which speaks of --config
        raise UserError(str(error).replace("--config=", "--data=", 1)) from error
    if "data" not in config:
        raise UserError(f"--data={data} is a config without the group data.")
    return config.data.to_dict()


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    more = ", ..." if len(names) > most else ""
    return ", ".join(names[:most]) + more
