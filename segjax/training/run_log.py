"""What a run says while it trains: on the screen, in its log, and to its hooks."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax

from segjax import config as config_lib
from segjax.training import sharding
from segjax.training.checkpoints.checkpoint_files import CHECKPOINTS
from segjax.training.divergence import LossRange
from segjax.training.early_stopping import Evaluation, evaluations_in
from segjax.training.hooks import Hook, Hooks, Result, RunStart
from segjax.training.hooks.hook import Pictures
from segjax.training.progress import Progress
from segjax.training.run_files.writer import Row, Writer
from segjax.training.sharding import Devices
from segjax.training.step import Metrics
from segjax.training.task import Task
from segjax.training.throughput import StepClock, in_words, peak_tflops


class RunLog:
    """The log of one run, and all who are told of it.

    Attributes:
      workdir: folder of the run.
      start: the step from which it starts.
      progress: what the user watches.
      loss: the loss since the line before, and its range; see `LossRange`.
      evaluations: those up to now, with those of the run before it was resumed.
      clock: measures the steps; there from the first step on.
    """

    clock: StepClock

    def __init__(
        self,
        task: Task,
        workdir: Path,
        start: int,
        devices: Devices,
        hooks: Mapping[str, Hook],
    ):
        """Opens nothing yet.

        Args:
          task: the experiment.
          workdir: folder of the run.
          start: the step from which it starts.
          devices: where it runs.
          hooks: of `make_hooks` in the main process; none in others.
        """
        self._task, self.workdir, self.start = task, workdir, start
        self.progress = Progress(task.config.num_steps, start)
        self.loss: dict[str, float] | None = None
        self.evaluations: list[Evaluation] = []
        self._losses = LossRange()
        self._pending: list[tuple[int, Metrics]] = []
        self._unreported: list[int] = []
        self._hooks = Hooks(hooks)
        self._writer: Writer | None = None
        peak = peak_tflops(devices.kind)
        self._peak = None if peak is None else peak * devices.count

    def open(self, stack: contextlib.ExitStack, rows: list[Row]) -> None:
        """Opens the log until the stack is left; all processes call it.

        Args:
          stack: closes it.
          rows: of the log, as it is.
        """
        stack.callback(self.progress.close)
        split = self._task.evaluation.split
        self._losses = LossRange.of_log(rows, self.start)
        self.evaluations = evaluations_in(rows, split, self.start)
        with sharding.fail_together():
            if sharding.process_index() == 0:
                text = config_lib.to_json(self._task.config)
                self._writer = Writer(self.workdir, resumed_from=self.start)
                stack.callback(self._writer.close)
                self._writer.write_text(self.start, "config", text)
                num_steps = self._task.config.num_steps
                stack.callback(self.end, None)
                self._hooks.start(
                    RunStart(self.workdir, json.loads(text), self.start, num_steps)
                )

    def begin(self, stack: contextlib.ExitStack) -> None:
        """Starts the clock, at the first step."""
        self.clock = StepClock(self._task.config.batch_size, self._peak)
        stack.callback(self.clock.close)

    def add(self, step: int, metrics: Metrics, flops: float) -> None:
        """Notes what a step measures, which need not be done yet."""
        self.clock.add(metrics, flops)
        self._pending.append((step, metrics))

    def fetch(self) -> list[tuple[int, Metrics]]:
        """Waits for the steps since the last time, and gives what they measured."""
        fetched = jax.device_get(self._pending)
        self._pending = []
        return fetched

    def write_steps(self, fetched: list[tuple[int, Metrics]]) -> None:
        """Writes a row about steps, all of them finite; all processes call it."""
        step, metrics = fetched[-1]
        values = {name: float(value) for name, value in metrics.items()}
        values["loss"] = sum(float(m["loss"]) for _, m in fetched) / len(fetched)
        timings = self.clock.measure()
        with self.clock.paused():
            self.loss = self._losses.add(values["loss"])
            self.progress.note(
                step, {"loss": f"{values['loss']:.4g}", **in_words(timings)}
            )
            values |= timings
            self._write(step, "train", values)
            self._hooks.log(step, values)

    def write_evaluation(
        self, step: int, metrics: Mapping[str, float], pictures: Pictures
    ) -> None:
        """Writes a row about an evaluation; all processes call it."""
        split = self._task.evaluation.split
        self._write(step, split, metrics)
        self.evaluations.append((step, metrics))
        found = [(name, metrics.get(name)) for name in self._task.headline]
        text = "  ".join(f"{name} {x:.4f}" for name, x in found if x is not None)
        total = self._task.config.num_steps
        self.progress.say(f"step {step}/{total}  {split}: {text}")
        self._hooks.evaluate(step, split, metrics, pictures)

    def saving(self, step: int) -> None:
        """Notes that a checkpoint is being written; those before it are whole."""
        self.saved()
        self._unreported.append(step)

    def saved(self) -> None:
        """Tells the hooks of the checkpoints that have become whole."""
        for step in self._unreported:
            folder = self.workdir / CHECKPOINTS / str(step)
            if folder.exists():  # no better one has taken its place
                self._hooks.checkpoint(step, folder)
        self._unreported.clear()

    def end(self, result: Result | None) -> None:
        """Tells the hooks how the run ended; None where an error ends it."""
        self._hooks.end(result)

    def _write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds a row to the log; all processes call it, and one writes."""
        with sharding.fail_together():
            if self._writer:
                self._writer.write(step, split, values)


def not_finite_step(
    fetched: list[tuple[int, Metrics]],
) -> tuple[int, Metrics] | None:
    """The first step that measured a number that is not finite, if there is one."""
    for step, metrics in fetched:
        if not all(math.isfinite(value) for value in metrics.values()):
            return step, metrics
    return None
