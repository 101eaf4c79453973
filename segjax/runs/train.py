"""Training an experiment: from its config to a run's folder."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Collection, Iterator
from pathlib import Path

import ml_collections

from segjax.data import UNLABELED, is_synthetic
from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.remote.address import is_remote
from segjax.remote.copies import to_train_in, with_copies
from segjax.runs import initialization
from segjax.tasks.table import make_task
from segjax.training import sharding
from segjax.training.hooks import check_hooks, make_hooks
from segjax.training.layout import check_rows, layout_of
from segjax.training.loop import Result, fit
from segjax.training.preflight import describe_experiment
from segjax.training.profiling import profiled_steps
from segjax.training.run_files.environment import add_environment
from segjax.training.run_files.train_log import TrainLog
from segjax.training.run_files.workdir import fold_count
from segjax.training.sharding import Devices
from segjax.training.stop import StopSignal
from segjax.training.task import Task

log = logging.getLogger("segjax")

FEW = 10
"""With fewer labelled images the log names those that validate."""


@with_copies(read=["data_root"])
def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    cache_dir: str | None = None,
    data_root: str | None = None,
    *,
    allow_code: Collection[str] = (),
    profile: str | None = None,
) -> Result:
    """Trains to the last step, resuming what the workdir holds.

    Args:
      config: the experiment.
      workdir: folder of the run; made where it is missing. A remote one, such as
        s3://bucket/runs/a, is copied here, and back while the run goes on.
      cache_dir: where prepared data sets lie; None for the default of TFDS.
      data_root: where the user's own files lie.
      allow_code: packages whose code may be imported where the config of a run names it whose
        weights training begins with.
      profile: "STEP:COUNT", such as "10:5": so many steps from that one on are traced, into
        `profile/` of the workdir.

    Returns:
      How it ended.

    Raises:
      UserError: for anything that the user can put right.
    """
    if is_remote(workdir):
        with _copy_of(workdir) as copy:
            places = copy, cache_dir, data_root
            return train(config, *places, allow_code=allow_code, profile=profile)
    workdir = Path(workdir)
    if folds := fold_count(workdir):
        raise UserError(
            f"--workdir={workdir} holds {folds} folds: go on with --folds={folds}, or give "
            "another --workdir."
        )
    with TrainLog() as kept, StopSignal() as stop:
        with sharding.fail_together():
            config = initialization.with_normalization(config, workdir)
            task = make_task(config)
            check_hooks(config)
            profiled = profiled_steps(profile, config.num_steps) if profile else None
            devices = Devices(layout=layout_of(config))
            check_rows(devices.layout, task)
            devices.check_batch_size(config.batch_size)
            is_main = sharding.process_index() == 0
            hooks = make_hooks(config) if is_main else {}
            dataset = task.open_dataset(cache_dir, data_root)
            if UNLABELED in dataset.splits:
                size = config.data[UNLABELED].batch_size
                devices.check_batch_size(size, f"config.data.{UNLABELED}.batch_size")
            for split in ("train", task.evaluation.split):
                task.records(dataset, split)
            log.info("%s", describe_experiment(task, dataset, devices))
            if sentence := _few_images(task, dataset):
                log.info("%s", sentence)
            weights = initialization.read(
                config,
                task.model,
                dataset.channels,
                workdir,
                allow_code,
                dataset.label_spec,
            )

        def on_begin() -> None:
            kept.open(workdir)
            add_environment(workdir, devices)

        given = weights, on_begin, profiled, hooks
        return fit(task, dataset, devices, workdir, stop, *given)


@contextlib.contextmanager
def _copy_of(workdir: str | Path) -> Iterator[Path]:
    """The copy of a remote workdir, which process 0 makes, and which all of them see.

    Signals are noted until all is copied back, and the run stops at the first.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(StopSignal())
        folder = ""
        with sharding.fail_together():
            if sharding.process_index() == 0:
                copy = stack.enter_context(to_train_in(workdir, "--workdir"))
                folder = str(copy)
        hosts, folders = zip(
            *(
                text.split("\n")
                for text in sharding.gather_texts(f"{platform.node()}\n{folder}")
            ),
            strict=True,
        )
        if len({*hosts}) > 1:
            raise UserError(
                f"--workdir={workdir} is remote, and the processes of the run are on several "
                f"machines ({', '.join(dict.fromkeys(hosts))}), which need a folder that all "
                "of them see: give a path on a disk that they share."
            )
        yield Path(folders[0])


def _few_images(task: Task, dataset: Dataset) -> str:
    """Says which images validate, where they are so few that it matters; else nothing."""
    split = task.evaluation.split
    records = task.records(dataset, split)
    train, held_out = len(dataset.splits["train"]), len(records)
    if train + held_out >= FEW or split == "train" or is_synthetic(dataset.name):
        return ""
    names = ", ".join(record["name"] for record in records)
    images, verb = ("image", "validates") if held_out == 1 else ("images", "validate")
    text = f"Split      {train} to train, and {held_out} {images} that {verb}: {names}"
    if "fold" in task.config or "labels" not in task.capabilities:
        return f"{text}."
    groups = dataset.groups or {}
    apart = len({*groups.get("train", ()), *groups.get(split, ())})
    folds = min(apart if apart > 1 else train + held_out, 5)
    return (
        f"{text}. With so few, the figures depend on which: --folds={folds}, in another "
        "--workdir, lets each validate once."
    )
