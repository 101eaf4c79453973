"""Checkpoints of a run: the state, sealed by hashes, and JSON beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from segjax.train import sharding
from segjax.train.evaluate import score
from segjax.train.state import TrainState, parameters_sha256, tree_sha256
from segjax.train.unfinished import let_orbax_finish
from segjax.types import UserError

log = logging.getLogger("segjax")

CHECKPOINTS = "checkpoints"

_PASSING = re.compile("PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|Too many open")
"""What TensorStore and XLA call errors that are not the checkpoint's own."""


def steps_on_disk(workdir: Path) -> list[int]:
    """The steps of the checkpoints in a workdir, newest first."""
    folders = (workdir / CHECKPOINTS).glob("[0-9]*")
    return sorted((int(f.name) for f in folders if f.name.isdigit()), reverse=True)


def abouts_on_disk(workdir: Path) -> Iterator[dict[str, Any]]:
    """The JSON beside the checkpoints of a workdir, newest first, damaged ones left out.

    It reads files and nothing else, so one process of many may call it.
    """
    for step in steps_on_disk(workdir):
        path = workdir / CHECKPOINTS / str(step) / "about" / "metadata"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(path.read_text())
            if about["about_sha256"] == _about_sha256(about):
                yield about


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
        let_orbax_finish()
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
        arguments = ocp.args.Composite(about=ocp.args.JsonRestore())
        for step in self.steps():
            try:
                about = self._manager.restore(step, args=arguments).about
                if about["about_sha256"] == _about_sha256(about):
                    return about
            except Exception as error:  # damaged: the one before will do
                self._raise_if_passing(step, error)
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
          DamagedError: if it is not what was saved.
          UserError: if it cannot be read for a reason that may pass, such as rights.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), about=ocp.args.JsonRestore()
        )
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
            self._raise_if_passing(step, error)
            reason = _first_line(error)
        raise DamagedError(step, self._directory, reason)

    def _raise_if_passing(self, step: int, error: Exception) -> None:
        """Raises an error that says nothing about the checkpoint itself."""
        reason: BaseException | None = error
        while reason is not None:
            if isinstance(reason, MemoryError):
                raise error
            if _is_passing(reason):
                raise self._unreadable(step, reason) from error
            reason = reason.__cause__ or reason.__context__
        for path in (self._directory / str(step)).rglob("*"):
            try:
                if path.is_file():
                    path.read_bytes()
            except OSError as found:
                raise self._unreadable(step, found) from error

    def _unreadable(self, step: int, reason: BaseException) -> UserError:
        return UserError(
            f"The checkpoint of step {step} in {self._directory} cannot be read "
            f"({_first_line(reason)}). Nothing was changed; look at rights, disk and "
            "memory, and call again."
        )

    def set_aside_after(self, step: int) -> None:
        """Moves what is newer than a step out of the way: damaged checkpoints that a
        resumed run will write anew. Nothing is deleted.
        """
        newer = [saved for saved in self.steps() if saved > step]
        if newer and sharding.process_index() == 0:
            for saved in newer:
                target = _free(self._directory.parent / f"damaged-{saved}")
                (self._directory / str(saved)).rename(target)
                log.warning("The damaged checkpoint was moved to %s.", target)
        sharding.barrier("set aside")
        self._manager.reload()


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


def _is_passing(error: BaseException) -> bool:
    """Whether an error is one of rights, disk, network or memory."""
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, OSError):
        return not isinstance(error, missing)
    return bool(_PASSING.search(str(error)))


def _free(path: Path) -> Path:
    """The first of `path-1`, `path-2`, ... that is not there."""
    number = 1
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free


def _first_line(error: BaseException) -> str:
    """The first line of what went wrong, cut to what a sentence can hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100].rstrip(" .:")


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
