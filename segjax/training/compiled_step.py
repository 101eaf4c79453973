"""The step of training as a program: compiled ahead of time, its cost, its time."""

from __future__ import annotations

import logging
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.training import sharding
from segjax.training.malloc import give_back_freed_memory, keep_together
from segjax.training.profiling import is_checked_for_nan, is_not_allowed
from segjax.training.sharding import Devices
from segjax.training.state import TrainState
from segjax.training.step import Metrics
from segjax.training.task import Task

log = logging.getLogger("segjax")


class CompiledStep:
    """A step of training, compiled once for each size of images."""

    def __init__(self, step: Any, devices: Devices, state: TrainState, batch: Any):
        """Compiles for the shapes of one batch.

        Args:
          step: the jitted function of state and batch.
          devices: where it runs.
          state: of which shapes and shardings matter.
          batch: the same.
        """
        self.step, self.devices = step, devices
        self._is_on_cpus = devices.platform == "cpu"
        self._running: Metrics = {}
        self.first = self._compile(state, batch)
        self.by_size = {batch["image"].shape: self.first}
        self.flops_by_size: dict[tuple[int, ...], float] = {}

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        """Runs the program for the size of the batch.

        Raises:
          UserError: for the first NaN or infinity, where JAX is asked to look for them.
        """
        size = batch["image"].shape
        if size not in self.by_size:
            log.info("Compiling the step for images of %d x %d, too.", *size[1:3])
            self.by_size[size] = self._compile(state, batch)
        if not is_checked_for_nan():
            if self._is_on_cpus:
                # There a step has its memory from when it is dispatched on.
                jax.block_until_ready(self._running)
            done = self.by_size[size](state, batch)
            self._running = done[1]
            return done
        # JAX itself looks at programs only when it calls them for the first time.
        wanted = is_not_allowed()
        with jax.debug_nans(False), jax.debug_infs(False):
            done = self.by_size[size](state, batch)
        found = any(map(wanted, jax.tree.leaves(done)))
        if not sharding.in_all_processes(not found):
            self._find_operation(state, batch)
        return done

    def _compile(self, state: TrainState, batch: Any) -> Any:
        with self.devices.lowering():
            lowered = self.step.lower(state, batch)
        compiled = lowered.compile(compiler_options=self.devices.compiler_options)
        give_back_freed_memory()
        memory = compiled.memory_analysis() if self._is_on_cpus else None
        if memory is not None:
            keep_together(memory.temp_size_in_bytes)
        return compiled

    def _find_operation(self, state: TrainState, batch: Any) -> None:
        """Runs the step again, operation by operation; JAX stops at the first NaN."""
        step, what = int(state.step) + 1, "none of its operations alone is"
        try:
            with jax.disable_jit(), self.devices.lowering():
                self.step.__wrapped__(state, batch)
        except FloatingPointError as error:
            what = str(error)
        raise UserError(f"Step {step} is not finite: {what}.")

    def flops(self, batch: Any) -> float:
        """The operations of a step on one device, as the compiler counts them."""
        size = batch["image"].shape
        if size not in self.flops_by_size:
            program = self.by_size.get(size, self.first)
            counts = program.cost_analysis() or {}
            self.flops_by_size[size] = float(counts.get("flops", 0.0))
        return self.flops_by_size[size]

    def cost_analysis(self) -> Any:
        """The compiler's counts for the first program."""
        return self.first.cost_analysis()

    def memory_analysis(self) -> Any:
        """The memory that the first program takes."""
        return self.first.memory_analysis()


def compile_step(
    task: Task, dataset: Dataset, devices: Devices, state: TrainState
) -> Any:
    """Compiles the step ahead of time, so that the preflight can report its cost.

    Batches of other sizes, which experiments with objects can have, are compiled for
    when the first of them comes.
    """
    task.prepare(dataset)
    batch = task.abstract_batch(dataset.channels, task.config.batch_size)
    step = jitted_step(task, devices, state, batch)
    return CompiledStep(step, devices, state, batch)


def jitted_step(task: Task, devices: Devices, state: TrainState, batch: Any) -> Any:
    """The step as a program over devices, which `segjax plan` compiles without having them.

    Args:
      task: the experiment.
      devices: where it is to run.
      state: of which shapes matter.
      batch: the same.

    Returns:
      The jitted function of state and batch, each array of which lies where it belongs.
    """
    places = devices.of_state(state)
    return jax.jit(
        task.train_step,
        # What is run again, operation by operation, must not be gone.
        donate_argnums=() if is_checked_for_nan() else 0,
        in_shardings=(places, devices.of_batch(batch)),
        out_shardings=(places, devices.replicated),
    )


def time_step(
    step_fn: Any, task: Task, dataset: Dataset, devices: Devices, state: TrainState
) -> float:
    """Times one step, on zeros and a copy of the state; both are dropped.

    Args:
      step_fn: the compiled step.
      task: the experiment.
      dataset: its data.
      devices: where it runs.
      state: of the run; it stays as it is.

    Returns:
      Seconds.
    """
    size = task.config.batch_size // sharding.process_count()
    shapes = task.abstract_batch(dataset.channels, size)
    zeros = {key: np.zeros(x.shape, x.dtype) for key, x in shapes.items()}
    arguments = jax.tree.map(jnp.copy, state), devices.put_batch(zeros)
    jax.block_until_ready(arguments)
    began = time.perf_counter()
    jax.block_until_ready(step_fn(*arguments))
    return time.perf_counter() - began
