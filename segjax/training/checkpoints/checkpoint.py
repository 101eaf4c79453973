"""Checkpoints of a run: the state, sealed by hashes, and JSON beside it.

A checkpoint holds the state (`segjax.training.state.TrainState`: step, parameters, batch
statistics, optimizer) and, as JSON, the config, the classes and the data that it was trained
on (`segjax.training.about.about_run`), its step, the metrics of the evaluation at that step,
and the hashes of the parameters, the state and the JSON itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from segjax.ending import is_of_lost_process
from segjax.errors import UserError
from segjax.metrics.direction import score
from segjax.output.files import free_name
from segjax.training import sharding
from segjax.training.checkpoints.checkpoint_files import (
    CHECKPOINTS,
    abouts_on_disk,
    read_about,
    steps_on_disk,
)
from segjax.training.checkpoints.checkpoint_options import options_of
from segjax.training.checkpoints.orbax_patch import (
    is_passing,
    let_orbax_finish,
    reason,
    silence_orbax,
)
from segjax.training.checkpoints.seal import SealSave, seal
from segjax.training.divergence import is_in_range
from segjax.training.state import TrainState, first_difference, tree_sha256

log = logging.getLogger("segjax")


class Checkpoints:
    """The checkpoints of one workdir: the latest two, the best, and those kept for good."""

    def __init__(
        self,
        workdir: Path,
        best_metric: str = "",
        *,
        read_only: bool = False,
        keep_every: int | None = None,
    ):
        """Opens them.

        Args:
          workdir: the run's folder; relative paths are resolved, as Orbax needs it.
          best_metric: name of the metric that marks the best, see
            `segjax.metrics.direction.score`; none where nothing is evaluated.
          read_only: whether nothing may be kept or deleted.
          keep_every: the checkpoint of each multiple of this step is kept for good.
        """
        silence_orbax()
        let_orbax_finish()
        self._directory = workdir.resolve() / CHECKPOINTS
        self._best_metric, self._keep_every = best_metric, keep_every
        self._metrics: dict[int, Mapping[str, Any] | None] = {}
        self._options = options_of(self._to_keep, read_only)
        self._manager = ocp.CheckpointManager(self._directory, options=self._options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        # At once: what is being saved is lost, or waits for a process that is not there.
        if isinstance(error, KeyboardInterrupt) or is_of_lost_process(error):
            return
        with contextlib.suppress(*([Exception] if error else [])), self._saving():
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

        Raises:
          UserError: if this checkpoint, or the one before, cannot be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        about = {**about, "step": step, "metrics": metrics}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state.to_dict()),
            about=SealSave(seal(state, about)),
        )
        self._metrics[step] = metrics
        with self._saving():
            self._manager.save(step, args=arguments, force=True)

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: if it cannot be written.
        """
        with self._saving():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Reports in one sentence why a checkpoint could not be written."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise UserError(
                f"A checkpoint could not be written to {self._directory} "
                f"({reason(error)}); {self._what_is_left()}. See that there is room and "
                "that the folder can be written, and call again."
            ) from error

    def _what_is_left(self) -> str:
        steps = steps_on_disk(self._directory.parent)
        return f"the newest there is of step {steps[0]}" if steps else "there is none"

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint is being written just now."""
        return self._manager.is_saving_in_progress()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def best_step(self) -> int | None:
        """The step of the best checkpoint; None where none was evaluated.

        A damaged one is logged and skipped.

        Raises:
          UserError: if one cannot be read for a reason that may pass, such as rights.
        """
        scores, unread = self._scores(self.steps())
        for step, error in unread.items():
            self._raise_if_passing(step, error)
            log.warning("%s", DamagedError(step, self._directory, reason(error)))
        return _best(scores)

    def _to_keep(self, steps: Sequence[int]) -> set[int | None]:
        """Of those steps the latest two, the best, and what cannot be read (just now).

        Besides those that are kept for good.
        """
        scores, unread = self._scores(steps)
        every = self._keep_every
        for_good = [step for step in steps if every and step % every == 0]
        return {*sorted(steps)[-2:], *for_good, *unread, _best(scores)}

    def _scores(
        self, steps: Sequence[int]
    ) -> tuple[dict[int, float], dict[int, Exception]]:
        """Of those steps the scores of the evaluated, and why others cannot be read."""
        unread: dict[int, Exception] = {}
        for step in steps:
            if step not in self._metrics:
                try:
                    about = read_about(self._directory / str(step))
                    self._metrics[step] = about.get("metrics")
                except (OSError, UserError) as error:
                    unread[step] = error
        read = ((step, self._metrics.get(step)) for step in steps)
        scores = {x: score(m, self._best_metric) for x, m in read if m is not None}
        return scores, unread

    def newest_in_range(self) -> Path | None:
        """The newest checkpoint whose loss was in the range of those before it, if any.

        Its arrays are finite, as training saves no others.
        """
        for about in abouts_on_disk(self._directory.parent):
            if is_in_range(about.get("loss")):
                return self._directory / str(about["step"])
        return None

    def newest_about(self) -> dict[str, Any]:
        """The JSON beside the newest checkpoint that has one.

        Raises:
          UserError: if there is none.
        """
        for step in self.steps():
            try:
                return read_about(self._directory / str(step))
            except (OSError, UserError) as error:  # damaged: the one before will do
                self._raise_if_passing(step, error)
        raise self._nothing_to_load(self.steps())

    def restore_newest(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Restores the newest checkpoint that is whole.

        A damaged one is logged and skipped.

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
        if not steps:
            return UserError(
                f"There is no checkpoint in {self._directory}. Train first, or give "
                "another --workdir."
            )
        return UserError(
            f"No checkpoint can be loaded from {self._directory}: those of the steps "
            f"{', '.join(map(str, steps))} are damaged, or config.model is not that of the "
            "run any more. Put copies of them or its old values back, or give another "
            "--workdir to train anew."
        )

    def restore(
        self, step: int, abstract: TrainState
    ) -> tuple[TrainState, dict[str, Any]]:
        """Restores one checkpoint and checks its hashes.

        Args:
          step: its step.
          abstract: see `restore_newest`; where it has no `opt_state`, that of the
            checkpoint is taken as it is, and its moving average, so that the optimizer
            need not be known.

        Returns:
          The state, and the JSON beside it.

        Raises:
          DamagedError: if it is not what was saved.
          UserError: if it is not there, cannot be read for a reason that may pass, such as
            rights, or one of the two has a moving average alone.
        """
        steps = self.steps()
        if step not in steps:
            raise UserError(
                f"There is no checkpoint of step {step} in {self._directory}, only of "
                f"{', '.join(map(str, steps))}. Choose one of these."
            )
        try:
            about = read_about(self._directory / str(step))
            if abstract.opt_state is None:
                abstract = self._with_saved_optimizer(step, abstract)
            wanted = ocp.args.StandardRestore(abstract.to_dict())
            arguments = ocp.args.Composite(state=wanted)
            state = TrainState(**self._manager.restore(step, args=arguments).state)
            if about["state_sha256"] != tree_sha256(state):
                raise UserError("its arrays have changed")
        except Exception as error:  # Orbax and TensorStore raise many kinds
            self._raise_if_passing(step, error)
            if abstract.opt_state is not None:
                self._check_average(step, abstract)
            why = self._difference(step, abstract) or reason(error)
            raise DamagedError(step, self._directory, why) from error
        return state, about

    def _with_saved_optimizer(self, step: int, abstract: TrainState) -> TrainState:
        """Adds the shapes of the optimizer's arrays in a checkpoint, and of the average's."""
        with ocp.StandardCheckpointer() as reader:
            saved: Any = reader.metadata(self._directory / str(step) / "state")
        tree = saved.item_metadata.tree
        found = {"opt_state": tree["opt_state"], "ema": tree.get("ema")}
        more = abstract_like(found, abstract.step.sharding)
        return dataclasses.replace(abstract, **more)

    def _check_average(self, step: int, abstract: TrainState) -> None:
        """Checks that a checkpoint has a moving average where the config wants one."""
        try:
            about = read_about(self._directory / str(step))
        except (OSError, UserError):  # it is damaged
            return
        there = about.get("config", {}).get("ema") is not None
        if there != (abstract.ema is not None):
            has = "has a" if there else "has no"
            raise UserError(
                f"The checkpoint of step {step} in {self._directory} {has} moving average, and "
                f"the config has {'no' if there else 'a'} group ema: resume with the config "
                "that the run began with, or begin another one with its weights, by "
                "--continue_from."
            )

    def _difference(self, step: int, abstract: TrainState) -> str:
        """The first difference between a checkpoint's network and the config's, "" if unknown."""
        try:
            saved = self._manager.item_metadata(step).state["params"]
            return first_difference(saved, abstract.params)
        except Exception:  # the metadata is damaged, too
            return ""

    def _raise_if_passing(self, step: int, error: Exception) -> None:
        """Raises an error that says nothing about the checkpoint itself."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise error
            if is_passing(cause):
                raise self._unreadable(step, cause) from error
            cause = cause.__cause__ or cause.__context__
        for path in (self._directory / str(step)).rglob("*"):
            try:
                if path.is_file():
                    path.read_bytes()
            except OSError as found:
                raise self._unreadable(step, found) from error

    def _unreadable(self, step: int, error: BaseException) -> UserError:
        return UserError(
            f"The checkpoint of step {step} in {self._directory} cannot be read "
            f"({reason(error)}). Nothing was changed; look at rights, disk and "
            "memory, and call again."
        )

    def set_aside_after(self, step: int) -> None:
        """Moves what is newer than a step out of the way: damaged checkpoints that a
        resumed run will write anew. Nothing is deleted.
        """
        newer = [saved for saved in self.steps() if saved > step]
        if sharding.process_index() == 0:
            for saved in newer:
                target = free_name(self._directory.parent / f"damaged-{saved}")
                (self._directory / str(saved)).rename(target)
                log.warning("The damaged checkpoint was moved to %s.", target)
        sharding.barrier("set aside")
        if newer:  # Orbax's reload would read what it skips at the start
            self._manager.close()
            self._manager = ocp.CheckpointManager(
                self._directory, options=self._options
            )
            for saved in newer:
                self._metrics.pop(saved, None)


class DamagedError(Exception):
    """A checkpoint that cannot be trusted."""

    def __init__(self, step: int, directory: Path, reason: str):
        super().__init__(
            f"The checkpoint of step {step} in {directory} is damaged ({reason})."
        )


def _best(scores: Mapping[int, float]) -> int | None:
    """The newest of the steps whose score is largest."""
    return max(scores, key=lambda step: (scores[step], step), default=None)


def abstract_like(state: Any, places: Any) -> Any:
    """Gives each leaf of an abstract state the sharding to restore it with.

    Args:
      state: of which shapes and dtypes matter.
      places: one sharding for all leaves, or a tree of them like the state.

    Returns:
      A tree like the state, of `jax.ShapeDtypeStruct`.
    """
    if isinstance(places, jax.sharding.Sharding):
        places = jax.tree.map(lambda _: places, state)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        state,
        places,
    )
