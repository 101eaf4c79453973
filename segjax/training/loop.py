"""The training program: one loop for every system."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.metrics import without_nan
from segjax.training import checkpoint, divergence, saving, sharding
from segjax.training.about import KEPT, LEARNED, about_run, check_data, train_images
from segjax.training.divergence import LossRange
from segjax.training.pictures import are_plotted, plan_pictures, plot_run
from segjax.training.preflight import describe_step
from segjax.training.progress import Progress
from segjax.training.report import write_run_report
from segjax.training.sharding import Devices
from segjax.training.state import TrainState, parameters_sha256
from segjax.training.step import Metrics
from segjax.training.stop import StopSignal
from segjax.training.task import InitialWeights, Report, Task
from segjax.training.workdir import LOG, lock, make_workdir, write_or_check_config
from segjax.training.writer import Writer, read_rows

log = logging.getLogger("segjax")

INITIALIZATION = "initialization"
"""The key for initial weights, in a config and in the description in checkpoints."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: the last step that was done.
      parameters_sha256: hash of the parameters at that step.
      metrics: of the last evaluation; empty where there was none.
      interrupted: whether a signal ended the run before its last step.
      signal: the signal that came during its steps, if one did.
    """

    step: int
    parameters_sha256: str
    metrics: dict[str, float]
    interrupted: bool
    signal: int | None = None


def fit(
    task: Task,
    dataset: Dataset,
    devices: Devices,
    workdir: Path,
    stop: StopSignal,
    weights: InitialWeights | None = None,
    on_begin: Callable[[], None] = lambda: None,
) -> Result:
    """Trains to the last step, resuming what the workdir holds.

    The state that is saved, and the data that follows, are functions of the config and
    the step alone, so a run that was stopped and resumed ends with the same bits as one
    that was not.

    Values that are not finite are looked for where the log is written and before each
    checkpoint, not after every step: the step that is named is the first such one.

    Args:
      task: the experiment.
      dataset: its data.
      devices: where it runs.
      workdir: folder of the run; made where it is missing.
      stop: signals that end the run early.
      weights: what a run without a checkpoint begins with, if not with random weights.
      on_begin: called in one process before the first step, if there are any to do.

    Returns:
      How it ended.

    Raises:
      UserError: for anything that the user can put right.
    """
    config, about = task.config, about_run(task.config, dataset)
    if weights is not None:
        about[INITIALIZATION] = dict(weights.about)
    for what in ("config", "label_spec", "records", INITIALIZATION):
        sharding.check_same(what, json.dumps(about.get(what), sort_keys=True))
    with contextlib.ExitStack() as stack:
        with sharding.fail_together():
            if sharding.process_index() == 0:
                make_workdir(workdir)
                stack.enter_context(lock(workdir))
                write_or_check_config(workdir, config)
        checkpoints = stack.enter_context(
            saving.for_training(workdir, task.evaluation.best_metric, config)
        )
        state = _initial_or_restored(
            task, devices, checkpoints, about, weights, dataset
        )
        del weights
        run = _Run(task, dataset, devices, checkpoints, workdir, about, int(state.step))
        if run.start == config.num_steps:
            log.info("%s has all its %d steps.", workdir, config.num_steps)
            return run.complete(state, stack)
        if stop.requested:
            return run.result(state, run.start)
        with sharding.fail_together():
            if run.is_main:
                on_begin()
                try:
                    plan_pictures(workdir, task, dataset)
                except UserError as error:  # they are the least of what a run gives
                    log.warning("There will be no new pictures: %s", error)
        run.open_log(stack)
        log.info("Compiling the training step, which on a CPU can take minutes.")
        step_fn = compile_step(task, dataset, devices, state)
        seconds = _time_step(step_fn, task, dataset, devices, state)
        left = config.num_steps - run.start
        log.info("%s", describe_step(step_fn, left, devices.count, seconds))
        with stop.interrupts():
            state = run(state, step_fn, stop)
        if run.step == run.total and stop.received != signal.SIGINT:
            run.plot(state)
        return dataclasses.replace(run.result(state, run.step), signal=stop.received)


class CompiledStep:
    """A step of training, compiled once for each size of images."""

    def __init__(self, step: Any, options: Any, state: TrainState, batch: Any):
        """Compiles for the shapes of one batch.

        Args:
          step: the jitted function of state and batch.
          options: of the compiler.
          state: of which shapes and shardings matter.
          batch: the same.
        """
        self.step, self.options = step, options
        self.first = step.lower(state, batch).compile(compiler_options=options)
        self.by_size = {batch["image"].shape: self.first}

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        """Runs the program for the size of the batch."""
        size = batch["image"].shape
        if size not in self.by_size:
            log.info("Compiling the step for images of %d x %d, too.", *size[1:3])
            lowered = self.step.lower(state, batch)
            self.by_size[size] = lowered.compile(compiler_options=self.options)
        return self.by_size[size](state, batch)

    def cost_analysis(self) -> Any:
        """The compiler's counts for the first program."""
        return self.first.cost_analysis()

    def memory_analysis(self) -> Any:
        """The memory that the first program takes."""
        return self.first.memory_analysis()


class _Run:
    """One run of the loop, with what it writes to."""

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        devices: Devices,
        checkpoints: checkpoint.Checkpoints,
        workdir: Path,
        about: dict[str, Any],
        start: int,
    ):
        self.task, self.dataset, self.devices = task, dataset, devices
        self.checkpoints, self.workdir, self.about = checkpoints, workdir, about
        self.start, self.step, self.total = start, start, task.config.num_steps
        self.is_main = sharding.process_index() == 0
        self.progress = Progress(self.total, start)
        self.writer: Writer | None = None
        self.pending: list[tuple[int, Metrics]] = []
        self.logged_at = start, time.monotonic()
        self.losses = LossRange()
        self.loss: dict[str, float] | None = None
        self.report: Report | None = None

    def open_log(self, stack: contextlib.ExitStack) -> None:
        """Opens the log until the stack is left; all processes call it."""
        stack.callback(self.progress.close)
        with sharding.fail_together():
            rows = read_rows(self.workdir / LOG)
            self.losses = LossRange.of_log(rows, self.start)
            if self.is_main:
                self.writer = Writer(self.workdir, resumed_from=self.start)
                stack.callback(self.writer.close)

    def __call__(self, state: TrainState, step_fn: Any, stop: StopSignal) -> TrainState:
        """Trains to the last step, or until it is asked to stop, and saves there."""
        config, step = self.task.config, self.start
        times = saving.Saving(config)
        self.logged_at = step, time.monotonic()
        stopped = stop.requested
        with self.task.batches(self.dataset, step) as batches:
            while step < self.total and not stopped:
                batch = self.devices.put_batch(next(batches))
                state, metrics = step_fn(state, batch)
                step += 1
                self.pending.append((step, metrics))
                stopped = stop.at(step)
                last = step == self.total or stopped
                saves = last or times.at(step)
                evaluates = step == self.total or step % config.eval_every == 0
                if saves or evaluates or step % config.log_every == 0:
                    self._log(state if saves or evaluates else None)
                metrics_to_keep = None
                if evaluates:
                    self.report = self._evaluate(state, step)
                    metrics_to_keep = without_nan(self.report.metrics)
                if saves or evaluates:  # a signal that came meanwhile need not wait
                    about = {**self.about, "loss": self.loss}
                    self.checkpoints.save(state, about, metrics_to_keep)
                    stopped = stopped or stop.requested
                self.progress.update(step)
        self.checkpoints.wait()
        self.step = step
        return state

    def complete(self, state: TrainState, stack: contextlib.ExitStack) -> Result:
        """Measures and plots a run that has all its steps, unless that was done."""
        split = self.task.evaluation.split
        with sharding.fail_together():
            rows = read_rows(self.workdir / LOG)
        found = [r for r in rows if (r["step"], r["split"]) == (self.total, split)]
        measured = sharding.in_all_processes(bool(found))
        if measured and sharding.in_all_processes(are_plotted(self.workdir)):
            values = {k: v for k, v in found[-1].items() if k not in ("step", "split")}
            metrics = {k: math.nan if v is None else v for k, v in values.items()}
            return self.result(state, self.total, metrics)
        if not measured:
            self.open_log(stack)
        self.report = self._evaluate(state, self.total)
        self.plot(state)
        return self.result(state, self.total)

    def result(
        self, state: TrainState, step: int, metrics: dict[str, float] | None = None
    ) -> Result:
        """How the run ended, at this step."""
        measured = self.report.metrics if self.report else {}
        return Result(
            step=step,
            parameters_sha256=parameters_sha256(state.evaluated()["params"]),
            metrics=measured if metrics is None else metrics,
            interrupted=step < self.total,
        )

    def _log(self, state: TrainState | None) -> None:
        """Fetches what the steps since the last time measured, and checks it, and the
        state, where it is given.
        """
        fetched = jax.device_get(self.pending)
        self.pending = []
        for step, metrics in fetched:
            if not all(math.isfinite(value) for value in metrics.values()):
                self._stop_at_non_finite(step, metrics)
        step, metrics = fetched[-1]
        if state is not None and not divergence.all_finite(state):
            self._stop_at_non_finite(step, metrics)
        before, moment = self.logged_at
        self.logged_at = step, time.monotonic()
        values = {name: float(value) for name, value in metrics.items()}
        values["loss"] = sum(float(m["loss"]) for _, m in fetched) / len(fetched)
        self.loss = self.losses.add(values["loss"])
        self.progress.note(step, {"loss": values["loss"]})
        values["steps_per_second"] = (step - before) / (time.monotonic() - moment)
        self._write(step, "train", values)

    def _write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Adds a row to the log; all processes call it, and one writes."""
        with sharding.fail_together():
            if self.writer:
                self.writer.write(step, split, values)

    def _stop_at_non_finite(self, step: int, metrics: Metrics) -> None:
        self.checkpoints.wait()
        raise UserError(
            divergence.sentence(
                step,
                {name: float(value) for name, value in metrics.items()},
                self.task.records_of_step(self.dataset, step - 1),
                self.checkpoints.newest_in_range(),
            )
        )

    def _evaluate(self, state: TrainState, step: int) -> Report:
        split = self.task.evaluation.split
        report = self.task.evaluate(state.evaluated(), self.dataset)
        self._write(step, split, report.metrics)
        found = [(name, report.metrics.get(name)) for name in self.task.headline]
        text = "  ".join(f"{name} {x:.4f}" for name, x in found if x is not None)
        self.progress.say(f"step {step}/{self.task.config.num_steps}  {split}: {text}")
        self.logged_at = step, time.monotonic()
        return report

    def plot(self, state: TrainState) -> None:
        """Plots the pictures of a finished run, and writes its report."""
        variables = state.evaluated()  # by all processes
        if self.is_main and self.report is not None:
            run = self.workdir, self.task, variables, self.dataset, self.report
            try:
                files = plot_run(*run)
            except UserError as error:  # a trained run is worth more than its pictures
                self.progress.say(f"There are no new pictures: {error}")
            else:
                self.progress.say(f"Pictures: {files[0].parent}")
            try:
                file = write_run_report(*run)
            except UserError as error:
                self.progress.say(f"There is no new report: {error}")
            else:
                self.progress.say(f"Report: {file}")


def _initial_or_restored(
    task: Task,
    devices: Devices,
    checkpoints: checkpoint.Checkpoints,
    about: dict[str, Any],
    weights: InitialWeights | None,
    dataset: Dataset,
) -> TrainState:
    init = lambda: task.init_state(about["channels"])
    if not checkpoints.steps():
        learned = about[LEARNED] = task.learn(dataset)
        sharding.check_same(LEARNED, json.dumps(learned, sort_keys=True))
        task.recall(learned)
        about |= train_images(dataset, about.get(INITIALIZATION, {}))
        fresh = jax.device_get(jax.jit(init)())
        if weights:
            fresh = task.restart(weights.initialize(fresh))
        return devices.put_replicated(fresh)
    splits = ("train", task.evaluation.split)
    saved = checkpoints.newest_about()
    check_data(saved, about, splits)
    # The numbers that its weights go with, even where they are counted otherwise today.
    about |= {key: saved[key] for key in KEPT if key in saved}
    task.recall(about.get(LEARNED, {}))
    if INITIALIZATION in saved:
        about[INITIALIZATION] = saved[INITIALIZATION]
    abstract = checkpoint.abstract_like(jax.eval_shape(init), devices.replicated)
    state, _ = checkpoints.restore_newest(abstract)
    sharding.check_same("newest checkpoint", str(int(state.step)))
    checkpoints.set_aside_after(int(state.step))
    log.info("Resuming at step %d.", int(state.step))
    return state


def compile_step(
    task: Task, dataset: Dataset, devices: Devices, state: TrainState
) -> Any:
    """Compiles the step ahead of time, so that the preflight can report its cost.

    Batches of other sizes, which experiments with objects can have, are compiled for
    when the first of them comes.
    """
    task.prepare(dataset)
    step = jax.jit(
        task.train_step,
        donate_argnums=0,
        in_shardings=(devices.replicated, devices.batch),
        out_shardings=(devices.replicated, devices.replicated),
    )
    batch = task.abstract_batch(dataset.channels, task.config.batch_size)
    return CompiledStep(step, devices.compiler_options, state, batch)


def _time_step(
    step_fn: Any, task: Task, dataset: Dataset, devices: Devices, state: TrainState
) -> float:
    """Times one step in seconds, on zeros and a copy of the state; both are dropped."""
    size = task.config.batch_size // sharding.process_count()
    shapes = task.abstract_batch(dataset.channels, size)
    zeros = {key: np.zeros(x.shape, x.dtype) for key, x in shapes.items()}
    arguments = jax.tree.map(jnp.copy, state), devices.put_batch(zeros)
    jax.block_until_ready(arguments)
    began = time.perf_counter()
    jax.block_until_ready(step_fn(*arguments))
    return time.perf_counter() - began
