"""The training program: one loop for every system."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import ml_collections

from segjax import config as config_lib
from segjax.data.dataset import Dataset
from segjax.inspect.preflight import describe_experiment, describe_step
from segjax.metrics import without_nan
from segjax.train import checkpoint, sharding
from segjax.train.evaluate import Report
from segjax.train.pictures import draw_run
from segjax.train.progress import Progress
from segjax.train.sharding import Devices
from segjax.train.state import TrainState, parameters_sha256
from segjax.train.step import Metrics
from segjax.train.task import SemanticTask
from segjax.train.trained import describe
from segjax.train.writer import Writer
from segjax.types import UserError

log = logging.getLogger("segjax")

HEADLINE = ("mean_iou", "pixel_error", "rand_error", "warping_error_at_0.5")
"""The metrics that are printed during training; all are in the log."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: the last step that was done.
      parameters_sha256: hash of the parameters at that step.
      metrics: of the last evaluation; empty where there was none.
      interrupted: whether a signal ended the run before its last step.
    """

    step: int
    parameters_sha256: str
    metrics: dict[str, float]
    interrupted: bool


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> Result:
    """Trains to the last step, resuming what the workdir holds.

    The state that is saved, and the data that follows, are functions of the config and
    the step alone, so a run that was stopped and resumed ends with the same bits as one
    that was not.

    Args:
      config: the experiment.
      workdir: folder of the run; made where it is missing.
      data_dir: where prepared data sets lie; None for the default of TFDS.
      manual_dir: where the person's own files lie.

    Returns:
      How it ended.

    Raises:
      UserError: for anything that a person can put right.
    """
    task = SemanticTask(config)
    devices = Devices()
    devices.check_batch_size(config.batch_size)
    dataset = task.open_dataset(data_dir, manual_dir)
    for split in ("train", task.evaluation.split):
        task.records(dataset, split)
    log.info("%s", describe_experiment(task, dataset, devices))
    is_main = sharding.process_index() == 0
    with contextlib.ExitStack() as stack:
        if is_main:
            checkpoint.make_workdir(workdir)
            stack.enter_context(checkpoint.lock(workdir))
            _settle_config(workdir, config)
        sharding.barrier("workdir")
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(workdir, task.evaluation.best_metric)
        )
        state = _initial_or_restored(task, dataset, devices, checkpoints)
        start = int(state.step)
        if start >= config.num_steps:
            log.info("%s has all its %d steps.", workdir, config.num_steps)
            return Result(start, parameters_sha256(state.params), {}, False)
        step_fn = _compile(task, dataset, devices, state)
        log.info("%s", describe_step(step_fn, config.num_steps - start, devices.count))
        run = _Run(task, dataset, devices, checkpoints, workdir if is_main else None)
        return run(state, step_fn, stack)


class _Run:
    """One run of the loop, with what it writes to."""

    def __init__(
        self,
        task: SemanticTask,
        dataset: Dataset,
        devices: Devices,
        checkpoints: checkpoint.Checkpoints,
        workdir: Path | None,
    ):
        self.task, self.dataset, self.devices = task, dataset, devices
        self.checkpoints, self.workdir = checkpoints, workdir
        self.writer: Writer | None = None
        self.pending: list[tuple[int, Metrics]] = []
        self.report: Report | None = None

    def __call__(
        self, state: TrainState, step_fn: Any, stack: contextlib.ExitStack
    ) -> Result:
        config, start = self.task.config, int(state.step)
        total = config.num_steps
        self.progress = Progress(total, start)
        stack.callback(self.progress.close)
        if self.workdir is not None:
            self.writer = Writer(self.workdir, resumed_from=start)
            stack.callback(self.writer.close)
        stop = stack.enter_context(_stop_signal())
        batches = stack.enter_context(self.task.batches(self.dataset, start))

        about = describe(config, self.dataset)
        step, self.logged_at = start, (start, time.monotonic())
        stopped = False
        while step < total and not stopped:
            batch = self.devices.put_batch(next(batches))
            state, metrics = step_fn(state, batch)
            step += 1
            self.pending.append((step, metrics))
            stopped = stop(step)
            last = step == total or stopped
            saves = last or step % config.checkpoint_every == 0
            evaluates = step == total or step % config.eval_every == 0
            if last or saves or evaluates or step % config.log_every == 0:
                self._log()
            if evaluates:
                self.report = self._evaluate(state, step)
                self.checkpoints.save(state, about, without_nan(self.report.metrics))
            elif saves:
                self.checkpoints.save(state, about)
            self.progress.update(step)
        self.checkpoints.wait()
        if step == total:
            self._draw(state)
        return Result(
            step=step,
            parameters_sha256=parameters_sha256(state.params),
            metrics=self.report.metrics if self.report else {},
            interrupted=step < total,
        )

    def _log(self) -> None:
        """Fetches what the steps since the last time measured, and checks it."""
        fetched = jax.device_get(self.pending)
        self.pending = []
        for step, metrics in fetched:
            if not all(math.isfinite(value) for value in metrics.values()):
                self._stop_at_non_finite(step, metrics)
        step, metrics = fetched[-1]
        before, moment = self.logged_at
        self.logged_at = step, time.monotonic()
        values = {name: float(value) for name, value in metrics.items()}
        values["loss"] = sum(float(m["loss"]) for _, m in fetched) / len(fetched)
        self.progress.note(step, {"loss": values["loss"]})
        values["steps_per_second"] = (step - before) / (time.monotonic() - moment)
        if self.writer:
            self.writer.write(step, "train", values)

    def _stop_at_non_finite(self, step: int, metrics: Metrics) -> None:
        names = self.task.records_of_step(self.dataset, step - 1)
        values = ", ".join(f"{key} {float(value):g}" for key, value in metrics.items())
        kept = self.checkpoints.steps()
        raise UserError(
            f"Step {step} is not finite ({values}), on the records {', '.join(names)}. "
            "Look at these images, lower config.schedule.peak, or set "
            "config.optimizer.clip_norm; the newest checkpoint is that of step "
            f"{kept[0] if kept else 0}, before it happened."
        )

    def _evaluate(self, state: TrainState, step: int) -> Report:
        split = self.task.evaluation.split
        report = self.task.evaluate(state.variables, self.dataset)
        if self.writer:
            self.writer.write(step, split, without_nan(report.metrics))
        headline = {
            name: report.metrics[name] for name in HEADLINE if name in report.metrics
        }
        text = "  ".join(f"{name} {value:.4f}" for name, value in headline.items())
        self.progress.say(f"step {step}/{self.task.config.num_steps}  {split}: {text}")
        self.logged_at = step, time.monotonic()
        return report

    def _draw(self, state: TrainState) -> None:
        """Draws the pictures of a finished run; one that was finished before has no
        report and keeps its pictures.
        """
        if self.workdir is None or self.report is None:
            return
        files = draw_run(
            self.workdir, self.task, state.variables, self.dataset, self.report
        )
        self.progress.say(f"Pictures: {files[0].parent}")


def _settle_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the config of a new run; compares it with that of an old one."""
    if not (workdir / checkpoint.CONFIG_FILE).exists():
        checkpoint.write_config(workdir, config)
        return
    changes = config_lib.differences(checkpoint.read_config(workdir), config)
    refused = {
        key: change
        for key, change in changes.items()
        if key not in config_lib.CHANGEABLE
    }
    if refused:
        what = "; ".join(f"{key} {change}" for key, change in refused.items())
        raise UserError(
            f"--workdir={workdir} holds a run with another config: {what}. Use the same "
            "values to resume it, or another --workdir."
        )
    if changes:
        what = "; ".join(f"{key} {change}" for key, change in changes.items())
        log.warning("Resuming with a changed config: %s.", what)
        checkpoint.write_config(workdir, config)


def _initial_or_restored(
    task: SemanticTask,
    dataset: Dataset,
    devices: Devices,
    checkpoints: checkpoint.Checkpoints,
) -> TrainState:
    init = lambda: task.init_state(dataset.channels)
    if not checkpoints.steps():
        return devices.put_replicated(jax.device_get(jax.jit(init)()))
    abstract = checkpoint.abstract_like(jax.eval_shape(init), devices.replicated)
    state, _ = checkpoints.restore_newest(abstract)
    checkpoints.delete_after(int(state.step))
    log.info("Resuming at step %d.", int(state.step))
    return state


def _compile(
    task: SemanticTask, dataset: Dataset, devices: Devices, state: TrainState
) -> Any:
    """Compiles the step ahead of time, so that the preflight can tell what it costs."""
    step = jax.jit(
        task.train_step,
        donate_argnums=0,
        in_shardings=(devices.replicated, devices.batch),
        out_shardings=(devices.replicated, devices.replicated),
    )
    batch = task.abstract_batch(dataset.channels, task.config.batch_size)
    return step.lower(state, batch).compile()


@contextlib.contextmanager
def _stop_signal() -> Iterator[Any]:
    """Turns SIGTERM and SIGINT into a question that the loop asks after each step."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        log.warning("Stopping after this step, saving (again to stop at once).")

    def stop(step: int) -> bool:
        if sharding.process_count() > 1:
            return sharding.any_process_wants_to_stop(step)
        return bool(received)

    if sharding.process_count() > 1:
        yield stop
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
