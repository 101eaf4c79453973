"""Readers of the config that experiments of every kind have in common."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from segjax import config as config_lib
from segjax import parts
from segjax.data import DATASETS, UNLABELED, is_synthetic
from segjax.data.dataset import Dataset
from segjax.data.folds import with_fold
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.remote.address import require_local
from segjax.training.optimizers import optim
from segjax.training.optimizers.builder import COMMON, Blocks, make_optimizer
from segjax.training.task import LoadedWeights
from segjax.types import Record, is_integer

log = logging.getLogger("segjax")


def open_data(
    config: ml_collections.ConfigDict, cache_dir: str | None, data_root: str | None
) -> Dataset:
    """Opens the data set of `config.data`, preparing it where that has not been done.

    Raises:
      UserError: if files are missing or wrong, or not on this machine.
    """
    for flag, place in (("cache_dir", cache_dir), ("data_root", data_root)):
        require_local(place, f"--{flag}")
    if data_root is not None and is_synthetic(str(config.data.get("name"))):
        log.warning(
            'The data set "%s" is synthetic: --data_root=%s is not read. Your own files '
            "need another preset, or another config.",
            config.data.name,
            data_root,
        )
    dataset = config_lib.build(
        DATASETS,
        labelled_group(config),
        "config.data",
        cache_dir=cache_dir,
        data_root=data_root,
    )
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"config.data.name is {config.data.name!r}, which makes a "
            f"{type(dataset).__name__}: a data set is a segjax.data.Dataset."
        )
    if "fold" not in config:
        return dataset
    split = config.evaluation.get("split", "validation")
    return config_lib.call(
        with_fold, config.fold, "config.fold", dataset=dataset, split=split
    )


def labelled_group(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The group `config.data` without that of images which have no labels."""
    plain = config.data.to_dict()
    return {key: value for key, value in plain.items() if key != UNLABELED}


def open_labelled(
    config: ml_collections.ConfigDict,
    weights: LoadedWeights,
    folder: str,
    cache_dir: str | None,
    channels: tuple[int | str, ...] | None = None,
    pages: Sequence[int] = (),
) -> Dataset:
    """Opens a labelled folder of any kind with the classes of a run, to measure all of it.

    Args:
      config: the experiment. Where its data set is a folder, labels mean what they mean
        there; else they are stored as those of its data set.
      weights: of the run.
      folder: with images/ and labels/, or with train/, validation/ or test/.
      cache_dir: where to remember which files were found good.
      channels: which are taken of its images; None: as in training.
      pages: places of those that are measured of each file, from 0; empty for all.

    Returns:
      A data set with one split, "all".

    Raises:
      UserError: if files are missing or wrong, or the run has objects of many classes.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"--input={folder} is not a folder. Give one with images/ and labels/."
        )
    group, spec = labelled_group(config), weights.label_spec
    if group["name"] in ("folder", "instance_folder"):
        pass
    elif weights.instance_spec is None:
        group = {
            "name": "folder",
            "classes": tuple(zip(spec.names, spec.colors, strict=True)),
            "ignore": spec.ignore,
            "remap": spec.remap,
            "channels": weights.channels,
            "labels": "overlapping"
            if isinstance(spec, OverlappingClasses)
            else "classes",
        }
    elif spec.num_classes == 2:
        group = {"name": "instance_folder", "class_name": spec.names[1]}
    else:
        raise UserError(
            f"--input is for objects of one class, but this run has "
            f"{spec.num_classes - 1}: measure a split of its data set, with --split."
        )
    if channels:
        group["channels"] = channels
    return config_lib.build(
        DATASETS,
        group | {"pages": tuple(pages), "undivided": True},
        "config.data",
        cache_dir=cache_dir,
        data_root=folder,
    )


def records_of(dataset: Dataset, split: str, remedy: str = "") -> Sequence[Record]:
    """The records of a split.

    Args:
      dataset: the data.
      split: its name.
      remedy: what to do where it is missing; ends the sentence.

    Returns:
      The records, one or more.

    Raises:
      UserError: if there is no such split, or it is empty; those that exist
        are named.
    """
    if split not in dataset.splits or not len(dataset.splits[split]):
        raise UserError(
            f'The data set "{dataset.name}" has no images in a split "{split}"; '
            f"it has {', '.join(dataset.splits)}.{remedy}"
        )
    return dataset.splits[split]


def check_optimizer(
    config: ml_collections.ConfigDict, optimizer: Any, init_state: Callable[[], Any]
) -> None:
    """Checks that an optimizer fits the parameters, and can do with what a step has.

    Args:
      config: the experiment.
      optimizer: of `optimizer_from`.
      init_state: makes the state before the first step; it is only traced.

    Raises:
      UserError: naming patterns of parameters that there are not, or what it lacks.
    """
    group = config.optimizer
    if group.name in optim.OPTIMIZERS and set(group) & {*COMMON} <= {"clip_norm"}:
        return  # those are known to do

    def update() -> Any:
        state = init_state()
        loss = jnp.zeros((), jnp.float32)
        _, after = optimizer.update(
            state.params, state.opt_state, state.params, value=loss
        )
        return state.opt_state, after

    try:
        before, after = jax.eval_shape(update)
    except Exception as error:  # whatever code from outside can raise
        wanted = re.search(r"missing .* argument[s]?: (.*)", str(error))
        if isinstance(error, TypeError) and wanted:
            raise UserError(
                f"config.optimizer.name is {group.name!r}, whose update wants "
                f"{wanted[1]}: a step of training has the gradient and the loss (value) "
                "alone. Take another one."
            ) from error
        text = str(error) if isinstance(error, ValueError) else parts.told(error)
        raise UserError(f"config.optimizer: {text.rstrip('.')}.") from error
    if jax.tree.map(_form, before) != jax.tree.map(_form, after):
        raise UserError(
            f"config.optimizer.name is {group.name!r}, whose state changes its shapes or "
            "dtypes in the first step: a run cannot resume from it."
        )


def _form(x: Any) -> tuple[Any, Any]:
    return x.shape, x.dtype


def optimizer_from(
    config: ml_collections.ConfigDict, schedule: Any, blocks: Blocks | None = None
) -> Any:
    """The optimizer of `config.optimizer`, with the learning rate of a schedule.

    An optimizer from outside gets the schedule as `schedule`, or as `learning_rate`, as those
    of Optax have it.

    Args:
      config: the experiment.
      schedule: the rate by step.
      blocks: names the blocks of the network, for `layer_decay`.

    Returns:
      The optimizer; see `segjax.training.optimizers.builder.make_optimizer`.

    Raises:
      UserError: naming the key that is wrong.
    """
    peak = config.schedule.get("learning_rate")
    return make_optimizer(config.optimizer, schedule, peak=peak, blocks=blocks)


def schedule_from(config: ml_collections.ConfigDict) -> Any:
    """The learning rate of each step, of `config.schedule`.

    A schedule of Optax has its own names for two values: `learning_rate` is given as its
    `peak_value`, `init_value` or `value`, and the steps of the run as its `decay_steps` or
    `transition_steps`, unless they are stated.

    Raises:
      UserError: naming the key that is wrong.
    """
    group = config.schedule.to_dict()
    where = "config.schedule"
    function = parts.find(optim.SCHEDULES, group.get("name"), f"{where}.name")
    takes = parts.inspect_arguments(function, where)
    warmup_steps = 0 if "warmup_steps" in takes else group.pop("warmup_steps", 0)
    if not is_integer(warmup_steps) or not 0 <= warmup_steps < config.num_steps:
        raise UserError(
            f"config.schedule.warmup_steps is {warmup_steps}: it must be an integer, "
            f"at least 0 and less than config.num_steps, {config.num_steps}. Give, for "
            f"example, --config.schedule.warmup_steps={config.num_steps // 10}."
        )
    num_steps = config.num_steps - warmup_steps
    if "learning_rate" in group and "learning_rate" not in takes:
        rate = group.pop("learning_rate")
        named = next((key for key in optim.RATES if key in takes), "learning_rate")
        group.setdefault(named, rate)
        group |= {key: num_steps for key in optim.STEPS if key in takes.keys() - group}
    schedule = config_lib.build(optim.SCHEDULES, group, where, num_steps=num_steps)
    if not callable(schedule):
        raise UserError(
            f"config.schedule.name is {group['name']!r}, which makes a "
            f"{type(schedule).__name__}: a schedule is a function from steps to rates."
        )
    try:
        with jax.ensure_compile_time_eval():  # it may be asked for within a trace
            return optim.with_warmup(schedule, warmup_steps)
    except OverflowError as error:  # of an integer that JAX cannot hold
        raise UserError(
            f"config.schedule holds too large a number ({error})."
        ) from error
