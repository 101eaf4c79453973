"""The training program: one loop for every system."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.metrics import without_nan
from segjax.remote.copies import with_addresses
from segjax.training import divergence, sharding
from segjax.training.about import KEPT, LEARNED, about_run, check_data, train_images
from segjax.training.checkpoints import checkpoint, saving
from segjax.training.compiled_step import CompiledStep, compile_step, time_step
from segjax.training.early_stopping import (
    EarlyStopping,
    Evaluation,
    early_stopping_of,
    evaluations_in,
)
from segjax.training.hooks import Hook, Result
from segjax.training.leaves import whole_value
from segjax.training.preflight import describe_step
from segjax.training.profiling import Profiler
from segjax.training.run_files.pictures import (
    are_plotted,
    plan_pictures,
    plot_run,
    render_pictures,
)
from segjax.training.run_files.report import write_run_report
from segjax.training.run_files.workdir import (
    LOG,
    lock,
    make_workdir,
    write_or_check_config,
)
from segjax.training.run_files.writer import Row, read_rows
from segjax.training.run_log import RunLog, not_finite_step
from segjax.training.sharding import Devices
from segjax.training.state import TrainState, parameters_sha256
from segjax.training.step import Metrics
from segjax.training.stop import StopSignal
from segjax.training.task import InitialWeights, Report, Task

log = logging.getLogger("segjax")

INITIALIZATION = "initialization"
"""The key for initial weights, in a config and in the description in checkpoints."""


def fit(
    task: Task,
    dataset: Dataset,
    devices: Devices,
    workdir: Path,
    stop: StopSignal,
    weights: InitialWeights | None = None,
    on_begin: Callable[[], None] = lambda: None,
    profiled: tuple[int, int] | None = None,
    hooks: Mapping[str, Hook] = MappingProxyType({}),
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
      profiled: the first and the last of the steps that are traced; None for none.
      hooks: what watches the run, in the main process; of `segjax.training.hooks.make_hooks`.

    Returns:
      How it ended.

    Raises:
      UserError: for anything that the user can put right.
    """
    config, about = task.config, about_run(task.config, dataset)
    stopping = early_stopping_of(config, task.evaluation.best_metric)
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
        with sharding.fail_together():
            rows = read_rows(workdir / LOG)
        log_of_run = RunLog(task, workdir, int(state.step), devices, hooks)
        run = _Run(task, dataset, devices, checkpoints, about, log_of_run, stopping)
        if run.has_ended(workdir, rows):
            return run.complete(state, stack, rows)
        if stop.requested:
            return run.result(state, run.start)
        with sharding.fail_together():
            if run.is_main:
                on_begin()
                try:
                    plan_pictures(workdir, task, dataset)
                except UserError as error:  # they are the least of what a run gives
                    log.warning("There will be no new pictures: %s", error)
        run.log.open(stack, rows)
        log.info("Compiling the training step, which on a CPU can take minutes.")
        step_fn = compile_step(task, dataset, devices, state)
        seconds = time_step(step_fn, task, dataset, devices, state)
        left = config.num_steps - run.start
        log.info("%s", describe_step(step_fn, left, devices.count, seconds))
        profiler = Profiler(profiled if run.is_main else None, workdir)
        stack.callback(profiler.close)
        run.log.begin(stack)
        with stop.interrupts():
            state = run(state, step_fn, stop, profiler)
        ended = run.step == run.total or run.stopped_early
        if ended and stop.received != signal.SIGINT:
            run.plot(state)
        result = run.result(state, run.step)
        result = dataclasses.replace(result, signal=stop.received)
        run.log.end(result)
        return result


class _Run:
    """One run of the loop, with what it writes to."""

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        devices: Devices,
        checkpoints: checkpoint.Checkpoints,
        about: dict[str, Any],
        log_of_run: RunLog,
        stopping: EarlyStopping | None,
    ):
        self.task, self.dataset, self.devices = task, dataset, devices
        self.checkpoints, self.about = checkpoints, about
        self.log, self.workdir = log_of_run, log_of_run.workdir
        self.start = log_of_run.start
        self.step, self.total = self.start, task.config.num_steps
        self.stopping = stopping
        self.is_main = sharding.process_index() == 0
        self.report: Report | None = None
        self.stopped_early: str | None = None

    def has_ended(self, workdir: Path, rows: list[Row]) -> bool:
        """Whether nothing is left to be trained."""
        if self.start == self.total:
            log.info("%s has all its %d steps.", workdir, self.total)
            return True
        found = evaluations_in(rows, self.task.evaluation.split, self.start)
        if found and found[-1][0] == self.start and self._stops_early(found):
            log.info("%s has ended: %s.", workdir, self.stopped_early)
        return self.stopped_early is not None

    def __call__(
        self,
        state: TrainState,
        step_fn: CompiledStep,
        stop: StopSignal,
        profiler: Profiler,
    ) -> TrainState:
        """Trains to the last step, or until it is to stop, and saves there."""
        config, step, clock = self.task.config, self.start, self.log.clock
        times = saving.Saving(config)
        stopped = stop.requested
        with self.task.batches(self.dataset, step) as batches:
            while step < self.total and not stopped:
                batch = clock.fetch(lambda: self.devices.put_batch(next(batches)))
                do = functools.partial(step_fn, state, batch)
                state, metrics = profiler.call(step + 1, do)
                step += 1
                self.log.add(step, metrics, self.devices.count * step_fn.flops(batch))
                stopped = stop.at(step)
                last = step == self.total or stopped
                saves = last or times.at(step)
                evaluates = step == self.total or step % config.eval_every == 0
                if saves or evaluates or step % config.log_every == 0:
                    self._log(state if saves or evaluates else None)
                with clock.paused():
                    metrics_to_keep = None
                    if evaluates:
                        self.report = self._evaluate(state, step)
                        metrics_to_keep = without_nan(self.report.metrics)
                    if saves or evaluates:
                        self.checkpoints.save(state, self._about(), metrics_to_keep)
                        self.log.saving(step)
                        # A signal that came meanwhile need not wait.
                        stopped = stopped or stop.requested
                    if evaluates and self._stops_early(self.log.evaluations):
                        self.log.progress.say(f"The end: {self.stopped_early}.")
                        stopped = True
                self.log.progress.update(step)
        self.checkpoints.wait()
        self.log.saved()
        self.step = step
        return state

    def _stops_early(self, evaluations: list[Evaluation]) -> bool:
        """Asks the rule of `config.early_stopping` after an evaluation."""
        if self.stopping is None:
            return False
        self.stopping.require_metric(evaluations[-1][1])
        reason = self.stopping.reason(evaluations)
        stops = sharding.in_all_processes(reason is not None)
        self.stopped_early = reason if stops else None
        return stops

    def complete(
        self, state: TrainState, stack: contextlib.ExitStack, rows: list[Row]
    ) -> Result:
        """Measures and plots a run that has ended, unless that was done."""
        split = self.task.evaluation.split
        found = [r for r in rows if (r["step"], r["split"]) == (self.start, split)]
        measured = sharding.in_all_processes(bool(found))
        if measured and sharding.in_all_processes(are_plotted(self.workdir)):
            values = {k: v for k, v in found[-1].items() if k not in ("step", "split")}
            metrics = {k: math.nan if v is None else v for k, v in values.items()}
            return self.result(state, self.start, metrics)
        if not measured:
            self.log.open(stack, rows)
        self.report = self._evaluate(state, self.start)
        self.plot(state)
        result = self.result(state, self.start)
        self.log.end(result)
        return result

    def result(
        self, state: TrainState, step: int, metrics: dict[str, float] | None = None
    ) -> Result:
        """How the run ended, at this step."""
        measured = self.report.metrics if self.report else {}
        return Result(
            step=step,
            parameters_sha256=parameters_sha256(state.evaluated()["params"]),
            metrics=measured if metrics is None else metrics,
            interrupted=step < self.total and not self.stopped_early,
            stopped_early=self.stopped_early,
        )

    def _about(self) -> dict[str, Any]:
        return {**self.about, "loss": self.log.loss}

    def _log(self, state: TrainState | None) -> None:
        """Fetches what the steps since the last time measured, and checks it, and the
        state, where it is given.
        """
        fetched = self.log.fetch()
        if found := not_finite_step(fetched):
            self._stop_at_non_finite(*found)
        with self.log.clock.paused():
            if state is not None:
                finite = divergence.all_finite(state)
                if not sharding.in_all_processes(finite):
                    self._stop_at_non_finite(*fetched[-1])
        self.log.write_steps(fetched)
        if not self.checkpoints.is_saving:
            self.log.saved()

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
        variables = _whole(state.evaluated())
        report = self.task.evaluate(variables, self.dataset)
        draw = functools.cache(
            lambda: render_pictures(self.task, variables, self.dataset, report)
        )
        self.log.write_evaluation(step, report.metrics, draw)
        return report

    def plot(self, state: TrainState) -> None:
        """Plots the pictures of a finished run, and writes its report."""
        variables = _whole(state.evaluated())  # by all processes
        if self.is_main and self.report is not None:
            run = self.workdir, self.task, variables, self.dataset, self.report
            try:
                files = plot_run(*run)
            except UserError as error:  # a trained run is worth more than its pictures
                self.log.progress.say(f"There are no new pictures: {error}")
            else:
                self.log.progress.say(with_addresses(f"Pictures: {files[0].parent}"))
            try:
                file = write_run_report(*run, self.step)
            except UserError as error:
                self.log.progress.say(f"There is no new report: {error}")
            else:
                self.log.progress.say(with_addresses(f"Report: {file}"))


def _whole(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Collections as host arrays, from the parts of all processes, which all call this."""
    return {name: jax.tree.map(whole_value, x) for name, x in variables.items()}


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
        with devices.lowering():
            fresh = jax.device_get(jax.jit(init)())
        if weights:
            fresh = task.restart(weights.initialize(fresh))
        return devices.put_state(fresh)
    splits = ("train", task.evaluation.split)
    saved = checkpoints.newest_about()
    check_data(saved, about, splits)
    # The numbers that its weights go with, even where they are counted otherwise today.
    about |= {key: saved[key] for key in KEPT if key in saved}
    task.recall(about.get(LEARNED, {}))
    if INITIALIZATION in saved:
        about[INITIALIZATION] = saved[INITIALIZATION]
    shapes = jax.eval_shape(init)
    abstract = checkpoint.abstract_like(shapes, devices.of_state(shapes))
    state, _ = checkpoints.restore_newest(abstract)
    sharding.check_same("newest checkpoint", str(int(state.step)))
    checkpoints.set_aside_after(int(state.step))
    log.info("Resuming at step %d.", int(state.step))
    return state
