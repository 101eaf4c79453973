"""When a run saves, and what it keeps: multiples of steps, and after so many minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import ml_collections

from segjax.training import sharding
from segjax.training.checkpoints.checkpoint import Checkpoints


def for_training(
    workdir: Path, best_metric: str, config: ml_collections.ConfigDict
) -> Checkpoints:
    """The checkpoints of a run that trains, kept as its config says."""
    keep_every = config.keep_every if "keep_every" in config else None
    return Checkpoints(workdir, best_metric, keep_every=keep_every)


class Saving:
    """The steps after which a run saves, besides the last and those of evaluations."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begins to count.

        Args:
          config: the experiment: `checkpoint_every`, `keep_every`, and
            `checkpoint_every_minutes`, which is looked at where the log is written.
          clock: seconds.
        """
        self._steps = [
            config[key] for key in ("checkpoint_every", "keep_every") if key in config
        ]
        self._log_every, self._seconds = config.log_every, None
        if "checkpoint_every_minutes" in config:
            self._seconds = 60 * config.checkpoint_every_minutes
        self._clock, self._saved_at = clock, clock()

    def at(self, step: int) -> bool:
        """Whether to save after a step; all processes ask it, and get the same answer."""
        saves = self._is_due(step)
        if saves:
            self._saved_at = self._clock()
        return saves

    def _is_due(self, step: int) -> bool:
        if any(step % steps == 0 for steps in self._steps):
            return True
        if self._seconds is None or step % self._log_every:
            return False
        return sharding.in_all_processes(
            self._clock() - self._saved_at >= self._seconds
        )
