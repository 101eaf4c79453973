"""When a run saves: at multiples of steps, and after so many minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

import ml_collections

from segjax.training import sharding


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
        if any(step % steps == 0 for steps in self._steps):
            return True
        if self._seconds is None or step % self._log_every:
            return False
        passed = self._clock() - self._saved_at
        return sharding.in_all_processes(passed >= self._seconds)

    def saved(self) -> None:
        """Notes that the run has saved."""
        self._saved_at = self._clock()
