"""What a hook is told of a run, and when."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Metrics = Mapping[str, float]
"""Numbers by name; NaN where one is undefined."""

Pictures = Callable[[], Mapping[str, bytes]]
"""Plots some images of the split that was evaluated, when it is called: PNG files by name."""


@dataclasses.dataclass(frozen=True)
class RunStart:
    """What is known of a run before its first step.

    Attributes:
      workdir: its folder.
      config: the experiment, as `config.json` has it.
      step: the step from which it starts; above 0 where a run is resumed. What a logger has
        of later steps comes again.
      num_steps: the last step.
    """

    workdir: Path
    config: Mapping[str, Any]
    step: int
    num_steps: int


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: the last step that was done.
      parameters_sha256: hash of the parameters at that step.
      metrics: of the last evaluation; empty where there was none.
      interrupted: whether a signal ended the run before its last step.
      signal: the signal that came during its steps, if one did.
      stopped_early: why `config.early_stopping` ended the run before its last step, if so.
    """

    step: int
    parameters_sha256: str
    metrics: dict[str, float]
    interrupted: bool
    signal: int | None = None
    stopped_early: str | None = None


class Hook(Protocol):
    """Watches a run. A class of one's own inherits from it, and has the methods that it needs.

    The methods are called on the main process, between two steps, which wait for them.
    """

    def on_start(self, run: RunStart) -> None:
        """Called before the step is compiled."""

    def on_log(self, step: int, metrics: Metrics) -> None:
        """Called with the numbers of the training steps, each `config.log_every` steps."""

    def on_evaluate(
        self, step: int, split: str, metrics: Metrics, pictures: Pictures
    ) -> None:
        """Called after each evaluation.

        Args:
          step: the step.
          split: what was evaluated.
          metrics: what was measured.
          pictures: plots some images with what was found in them; takes time only if called.
        """

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Called once a checkpoint is whole on disk, which may be some steps later."""

    def on_end(self, result: Result | None) -> None:
        """Called at the end, with how the run ended; None where an error ends it."""
