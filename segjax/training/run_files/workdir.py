"""The folder of a run: who may write to it, and the config that it was started with.

config.json         the experiment
checkpoints/STEP/   the state, and beside it step, hashes and config as JSON
damaged-STEP-N/     a checkpoint that could not be trusted, set aside
metrics.jsonl       the log, one JSON object a line
tensorboard/        the same for TensorBoard
pictures/           curves, confusion matrix, overlays
report.html         all of it on one page
environment.json    versions, code, devices and command line of each start
train.log           what the terminal showed
profile/            a trace of some steps, where one was asked for
.lock               held while a process trains here
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.output.files import locked, require_writable, whole_file
from segjax.text_files import parse_json, read_bytes
from segjax.training.checkpoints import checkpoint_files

log = logging.getLogger("segjax")

CONFIG_FILE = "config.json"
LOG = "metrics.jsonl"
ENVIRONMENT = "environment.json"
TRAIN_LOG = "train.log"

_OF_A_RUN = (
    *(CONFIG_FILE, checkpoint_files.CHECKPOINTS, LOG, "tensorboard", "pictures"),
    *(ENVIRONMENT, TRAIN_LOG),
)
"""Files and folders of a run that are written, and so must not be links."""


def fold_folder(workdir: Path, index: int) -> Path:
    """The folder of one fold, from 0, of a run with folds; it is a workdir of its own."""
    return workdir / f"fold_{index}"


def fold_count(workdir: Path) -> int:
    """How many folds a run was divided into; 0 where it has none."""
    first = fold_folder(workdir, 0)
    if not (first / CONFIG_FILE).exists():
        return 0
    config = read_config(first)
    return int(config.fold.count) if "fold" in config else 0


def is_needed_to_load(name: str) -> bool:
    """Whether a file, by its path within a run, is read to use the network; logs are not."""
    parts = name.split("/")
    in_checkpoint = checkpoint_files.CHECKPOINTS in parts
    return in_checkpoint or len(parts) == 1 or parts[-1] == CONFIG_FILE


def make_workdir(workdir: Path) -> None:
    """Makes the folder of a run and checks that it can be written.

    Raises:
      UserError: as `check_workdir` does.
    """
    check_workdir(workdir)
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)


def check_workdir(workdir: Path) -> None:
    """Checks that the folder of a run can be made or written, and is nothing else.

    Raises:
      UserError: naming the folder and what stands in the way: links, or a log that no run
        of segjax wrote.
    """
    with writing(workdir):
        require_writable(workdir)
    paths = [workdir / name for name in _OF_A_RUN]
    for path in (*paths, *(workdir / checkpoint_files.CHECKPOINTS).glob("*")):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, through which nothing is written. Put the "
                "original there; the folder of a run as a whole may be a link."
            )
        if path.name.isdecimal() and not path.is_dir():
            raise UserError(
                f"{path} is a file, where the folder of a checkpoint would be. Move it."
            )
    there = all(
        (workdir / x).exists() for x in (CONFIG_FILE, checkpoint_files.CHECKPOINTS)
    )
    if there or any(True for _ in checkpoint_files.abouts_on_disk(workdir)):
        return
    found = workdir / LOG
    if found.exists() and (found.stat().st_size or not found.is_file()):
        raise UserError(
            f"{found} is not the log of a run, as {CONFIG_FILE} or "
            f"{checkpoint_files.CHECKPOINTS} is missing beside it. Move it, or choose another "
            "--workdir."
        )


def check_lock(workdir: Path) -> None:
    """Checks that the folder of a run can be locked, now or when its holder is done.

    Raises:
      UserError: if it cannot be locked.
    """
    with (
        writing(workdir),
        contextlib.suppress(BlockingIOError),
        locked(workdir / ".lock"),
    ):
        pass


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds a workdir for this process; the lock dies with the process.

    Raises:
      UserError: if another process trains here, or it cannot be locked.
    """
    with contextlib.ExitStack() as stack:
        with writing(workdir):
            try:
                stack.enter_context(locked(workdir / ".lock"))
            except BlockingIOError as error:
                raise UserError(
                    f"Another process is working in --workdir={workdir}: wait for it, "
                    "or choose another folder."
                ) from error
        yield


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """Reads the config that a run was started with.

    Where the file is damaged, the config beside the newest checkpoint takes its place,
    and that is logged.

    Raises:
      UserError: if the folder is missing or is not a workdir, or there is no such config.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        if not workdir.exists():
            raise UserError(
                f"--workdir={workdir} does not exist: give the folder that a training "
                "run wrote, or train first."
            )
        if folds := fold_count(workdir):
            raise UserError(
                f"--workdir={workdir} holds {folds} folds: give one of them, such as "
                f"{fold_folder(workdir, 0)}."
            )
        raise UserError(
            f"--workdir={workdir} holds no run: {CONFIG_FILE} is missing. Give the folder "
            "that a training run wrote, or train first."
        )
    try:
        config = config_lib.from_dict(parse_json(read_bytes(path), path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except (UserError, ValueError) as error:
        message = str(error) if isinstance(error, UserError) else f"{path}: {error}."
        for about in checkpoint_files.abouts_on_disk(workdir):
            log.warning(
                "%s The config of the checkpoint of step %d is taken.",
                message,
                about["step"],
            )
            return config_lib.from_dict(about["config"])
        raise UserError(
            f"{message} No checkpoint keeps a copy of it: without a whole file, remove this "
            "workdir and train again."
        ) from error
    try:
        config_lib.check(config)
    except UserError as error:
        raise UserError(f"{path}: {error} Correct the file.") from None
    return config


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the config, whole or not at all; leaves a file of the same content alone.

    Raises:
      UserError: naming the folder and what stands in the way.
    """
    path = workdir / CONFIG_FILE
    content = (config_lib.to_json(config) + "\n").encode()
    with writing(workdir):
        if path.exists() and read_bytes(path) == content:
            return
        with whole_file(path) as file:
            file.write(content)


def write_or_check_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the config of a new run; compares it with that of an old one.

    Raises:
      UserError: if the run was started with a config that it cannot go on with.
    """
    if (workdir / CONFIG_FILE).exists():
        _compare(workdir, config)
    write_config(workdir, config)


def _compare(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Refuses changes of what the state depends on; logs the others."""
    changes = config_lib.differences(read_config(workdir), config)
    refused = {k: v for k, v in changes.items() if not config_lib.is_changeable(k)}
    if refused:
        what = "; ".join(f"{key} {change}" for key, change in refused.items())
        raise UserError(
            f"--workdir={workdir} holds a run with another config: {what}. Use the same "
            "values to resume it, or another --workdir."
        )
    saved = max(checkpoint_files.steps_on_disk(workdir), default=0)
    if config.num_steps < saved:
        raise UserError(
            f"config.num_steps is {config.num_steps}, but --workdir={workdir} holds a "
            f"checkpoint of step {saved}: use at least {saved}, or another --workdir."
        )
    if changes:
        what = "; ".join(f"{key} {change}" for key, change in changes.items())
        log.warning("Resuming with a changed config: %s.", what)


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Reports in one sentence that the folder of a run cannot be written.

    Raises:
      UserError: naming the folder and what stands in the way.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written ({error.strerror}): choose a folder "
            "of your own, on a disk that has room."
        ) from error
