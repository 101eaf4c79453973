"""Checkpoints of a run, and what a run's folder holds besides.

A workdir:

    config.json         the experiment
    checkpoints/STEP/   the state, and beside it step, hash and config as JSON
    metrics.jsonl       the log, one JSON object a line
    tensorboard/        the same for TensorBoard
    pictures/           curves, confusion matrix, overlays
    .lock               held while a process trains here
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from segjax import config as config_lib
from segjax.train.evaluate import score
from segjax.train.state import TrainState, parameters_sha256, tree_sha256
from segjax.types import UserError

log = logging.getLogger("segjax")

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """Reads the config that a run was started with.

    Raises:
      UserError: if the folder is missing or is no workdir.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        what = "holds no run" if workdir.is_dir() else "does not exist"
        raise UserError(
            f"--workdir={workdir} {what}: {CONFIG_FILE} is missing. Give the folder that "
            "a training run wrote, or train first."
        )
    return config_lib.from_json(path.read_text())


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the config, whole or not at all."""
    path = workdir / CONFIG_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(config_lib.to_json(config) + "\n")
    partial.replace(path)


def make_workdir(workdir: Path) -> None:
    """Makes the folder of a run and checks that it can be written.

    Raises:
      UserError: naming the folder and what stands in the way.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written ({error.strerror}): choose a folder "
            "of your own."
        ) from error


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds a workdir for this process; the lock dies with the process.

    Raises:
      UserError: if another process trains here.
    """
    with open(workdir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is training in --workdir={workdir}: wait for it, or "
                "choose another folder."
            ) from error
        yield


class Checkpoints:
    """The checkpoints of one workdir: the latest two, and the best."""

    def __init__(
        self, workdir: Path, best_metric: str | None = None, *, read_only: bool = False
    ):
        """Opens them.

        Args:
          workdir: the run's folder; relative paths are resolved, as Orbax needs it.
          best_metric: name of the metric that marks the best, as in
            `segjax.train.evaluate.score`.
          read_only: whether nothing may be kept or deleted.
        """
        for noisy in ("absl", "orbax"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._directory = workdir.resolve() / CHECKPOINTS
        self._manager = ocp.CheckpointManager(
            self._directory, options=_options(best_metric, read_only)
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(
        self,
        state: TrainState,
        about: Mapping[str, Any],
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """Starts to save; the arrays may be overwritten as soon as this returns.

        Args:
          state: the state; its own step names the checkpoint.
          about: JSON that is kept beside it.
          metrics: of the evaluation at this very step, where there was one.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        about = {
            **about,
            "step": step,
            "parameters_sha256": parameters_sha256(state.params),
            "state_sha256": tree_sha256(state),
        }
        about["about_sha256"] = _about_sha256(about)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
        )
        self._manager.save(step, args=arguments, metrics=metrics, force=True)

    def wait(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def best_step(self) -> int | None:
        """The step of the best checkpoint; None where none was evaluated."""
        return self._manager.best_step()

    def newest_about(self) -> dict[str, Any]:
        """The JSON beside the newest checkpoint that has one.

        Raises:
          UserError: if there is none.
        """
        for step in self.steps():
            with contextlib.suppress(Exception):  # damaged: the one before will do
                arguments = ocp.args.Composite(about=ocp.args.JsonRestore())
                about = self._manager.restore(step, args=arguments).about
                if about["about_sha256"] == _about_sha256(about):
                    return about
        raise self._nothing_to_load(self.steps())

    def restore_newest(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Restores the newest checkpoint that is whole.

        A damaged one is said and passed over.

        Args:
          abstract: a tree like the state, of `jax.ShapeDtypeStruct` with shardings.

        Returns:
          The state, and the JSON beside it.

        Raises:
          UserError: if there is none, or all are damaged.
        """
        steps = self.steps()
        for step in steps:
            try:
                return self.restore(step, abstract)
            except DamagedError as error:
                log.warning("%s Falling back to the one before.", error)
        raise self._nothing_to_load(steps)

    def _nothing_to_load(self, steps: list[int]) -> UserError:
        what = f"none of {steps} can be read" if steps else "there is none"
        return UserError(
            f"No checkpoint to load in {self._directory}: {what}. Train first, or give "
            "another --workdir."
        )

    def restore(
        self, step: int, abstract: TrainState
    ) -> tuple[TrainState, dict[str, Any]]:
        """Restores one checkpoint and checks its hashes.

        Raises:
          DamagedError: if it cannot be read, or is not what was saved.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), about=ocp.args.JsonRestore()
        )
        with _quiet_leftovers():
            try:
                restored = self._manager.restore(step, args=arguments)
                state, about = restored.state, restored.about
                if about["about_sha256"] != _about_sha256(about):
                    reason = "what it says of itself has changed"
                elif about["state_sha256"] != tree_sha256(state):
                    reason = "its arrays have changed"
                else:
                    return state, about
            except Exception as error:  # Orbax and TensorStore raise many kinds
                reason = _first_line(error)
        raise DamagedError(step, self._directory, reason)

    def delete_after(self, step: int) -> None:
        """Deletes what is newer than a step: damaged checkpoints that a resumed run
        will write anew.
        """
        for newer in self.steps():
            if newer > step:
                self._manager.delete(newer)


class DamagedError(Exception):
    """A checkpoint that cannot be trusted."""

    def __init__(self, step: int, directory: Path, reason: str):
        super().__init__(
            f"The checkpoint of step {step} in {directory} is damaged ({reason})."
        )


def _about_sha256(about: Mapping[str, Any]) -> str:
    """Hashes the JSON beside a checkpoint, all of it but this very hash."""
    plain = {key: value for key, value in about.items() if key != "about_sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    """The first line of what went wrong, cut to what a sentence can hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100].rstrip(" .:")


@contextlib.contextmanager
def _quiet_leftovers() -> Iterator[None]:
    """Sweeps up the reads that Orbax leaves behind, unawaited, when one of them fails.

    Python would print a page about each of them, now or later on.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook


def abstract_like(state: Any, sharding: jax.sharding.Sharding) -> Any:
    """Gives each leaf of an abstract state the sharding to restore it with."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state
    )


def _options(best_metric: str | None, read_only: bool) -> ocp.CheckpointManagerOptions:
    def best(metrics: Mapping[str, float | None]) -> float:
        return score(metrics, best_metric or "")

    keep_best = policies.BestN(
        get_metric_fn=best, n=1, keep_checkpoints_without_metrics=False
    )
    latest_and_best = policies.AnyPreservationPolicy([policies.LatestN(2), keep_best])
    return ocp.CheckpointManagerOptions(
        best_fn=best,
        best_mode="max",
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        preservation_policy=None if read_only else latest_and_best,
    )
