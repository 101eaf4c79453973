"""SIGTERM and SIGINT, as a question that a run asks where it can stop."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

from segjax.train import sharding

log = logging.getLogger("segjax")


class StopSignal:
    """Notes the signals while it is entered, and puts the handlers back.

    A second signal stops at once. In a run of many processes JAX notes SIGTERM itself
    and agrees on a step; that is then the only place where they stop.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if sharding.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether this process was told to stop; False in a run of many processes."""
        return bool(self._received)

    def at(self, step: int) -> bool:
        """Whether all processes stop after this step; each asks it once a step."""
        if sharding.process_count() > 1:
            return sharding.any_process_wants_to_stop(step)
        return self.requested

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._received:
            raise KeyboardInterrupt
        self._received.append(number)
        log.warning("Stopping at the next step, saving (again to stop at once).")
