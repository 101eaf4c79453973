"""A trace of some steps, for xprof and Perfetto."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.training.leaves import local_values

log = logging.getLogger("segjax")

T = TypeVar("T")

FOLDER = "profile"
"""Where the trace lies in the folder of a run."""


def profiled_steps(text: str, num_steps: int) -> tuple[int, int]:
    """Reads STEP:COUNT.

    Args:
      text: such as "10:3", three steps from the tenth on.
      num_steps: of the run.

    Returns:
      The first of the steps and the last one.

    Raises:
      UserError: if it is something else, or the run has no such steps.

    Example:
      >>> profiled_steps("10:3", 100)
      (10, 12)
    """
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    first, count = map(int, found.groups()) if found else (0, 0)
    if not first or not count:
        raise UserError(
            f"--profile={text} is not STEP:COUNT, such as --profile=10:5 for five steps from "
            "step 10 on."
        )
    last = first + count - 1
    if last > num_steps:
        raise UserError(
            f"--profile={text} ends with step {last}, but config.num_steps is {num_steps}: "
            "choose earlier steps."
        )
    return first, last


class Profiler:
    """Traces some steps of a run, and what the host does meanwhile."""

    def __init__(self, steps: tuple[int, int] | None, workdir: Path):
        """Traces nothing yet.

        Args:
          steps: the first one and the last one; None for none.
          workdir: of the run.
        """
        self._steps, self._folder = steps, workdir / FOLDER
        self._traces = False

    def call(self, step: int, function: Callable[[], T]) -> T:
        """Does a step, traced if it is one of them.

        Args:
          step: its number, from 1.
          function: does it.

        Returns:
          What the function returns.
        """
        if self._steps is None:
            return function()
        first, last = self._steps
        if not self._traces and step > last:
            log.warning("There is no trace: the run is beyond step %d already.", last)
            self._steps = None
            return function()
        if not self._traces and first <= step <= last:
            if step > first:
                log.warning("The trace begins with step %d.", step)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._traces = True
        if not self._traces:
            return function()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            result = function()
        if step == last:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """Writes the trace, if there is one."""
        if not self._traces:
            return
        self._traces, self._steps = False, None
        jax.profiler.stop_trace()
        log.info("Trace      %s, for xprof and ui.perfetto.dev", self._folder)


def is_not_allowed() -> Callable[[Any], bool]:
    """What JAX is asked to look for in an array: NaN, infinity, or both."""
    found: Any = jax.config
    nans, infs = found.jax_debug_nans, found.jax_debug_infs

    def is_there(x: Any) -> bool:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return False
        return any(
            bool((nans and np.isnan(part).any()) or (infs and np.isinf(part).any()))
            for part in local_values(x)
        )

    return is_there


def is_checked_for_nan() -> bool:
    """Whether JAX is asked to find the operation that gives the first NaN or infinity."""
    found: Any = jax.config
    return bool(found.jax_debug_nans or found.jax_debug_infs)
