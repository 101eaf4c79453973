"""The group `config.data.unlabeled`: images without labels beside the labelled ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax.data import DATASETS, UNLABELED
from segjax.data.dataset import Dataset
from segjax.data.semantic.unlabeled import image_folder, images_only
from segjax.errors import UserError, shown
from segjax.training.experiment import records_of
from segjax.types import Record, is_count

WHERE = f"config.data.{UNLABELED}"


def check_unlabeled(config: ml_collections.ConfigDict) -> None:
    """Checks the group `config.data.unlabeled` of an experiment, where there is one.

    Raises:
      UserError: if it is no group, has no size of a batch, or no step would use it.
    """
    if config.data.get(UNLABELED) is None:
        return
    config_lib.require_group(config.data[UNLABELED], WHERE)
    if config.get("step") is None:
        raise UserError(
            f"{WHERE} has no use without config.step: name a step that reads "
            f'batch["{UNLABELED}"], as in docs/mean_teacher.md, or leave the group out.'
        )
    if not is_count(size := config.data[UNLABELED].get("batch_size")):
        raise UserError(
            f"{WHERE}.batch_size is the number of images of one step, at least 1, got "
            f"{shown(size)}."
        )


def with_unlabeled(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    cache_dir: str | None,
    data_root: str | None,
) -> Dataset:
    """Adds the images of `config.data.unlabeled`, where there is such a group, as a split.

    The group has `batch_size`, the images of one step over all devices, and `folder`; or, in its
    place, `name` and the arguments of another data set, of which a `split` is taken, "train"
    unless it says so, without its labels.

    Args:
      config: the experiment.
      dataset: its labelled images.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.

    Returns:
      The data set with a split "unlabeled"; without the group, as it was.

    Raises:
      UserError: if the group is wrong, its images are missing or have other channels, or no
        step would use them.
    """
    if config.data.get(UNLABELED) is None:
        return dataset
    check_unlabeled(config)
    group = config.data[UNLABELED].to_dict()
    del group["batch_size"]
    records = _records(config, group, dataset, cache_dir, data_root)
    return dataclasses.replace(dataset, splits={**dataset.splits, UNLABELED: records})


def _records(
    config: ml_collections.ConfigDict,
    group: dict[str, Any],
    dataset: Dataset,
    cache_dir: str | None,
    data_root: str | None,
) -> Sequence[Record]:
    if "folder" in group:
        channels = config.data.get("channels", dataset.channels)
        more: Mapping[str, Any] = {"channels": channels, "cache_dir": cache_dir}
        return config_lib.call(image_folder, group, WHERE, **more)
    if "name" not in group:
        raise UserError(
            f"{WHERE} names no images: give folder, or name and arguments of a data set."
        )
    split = group.pop("split", "train")
    found = config_lib.build(
        DATASETS, group, WHERE, cache_dir=cache_dir, data_root=data_root
    )
    if found.channels != dataset.channels:
        raise UserError(
            f"{WHERE} has images of {found.channels} channels, but those of config.data have "
            f"{dataset.channels}: choose images of the same kind."
        )
    return images_only(records_of(found, split))
