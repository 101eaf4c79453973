"""SIGTERM, SIGUSR1 and SIGINT, as a question that a run asks where it can stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from segjax.training import sharding

log = logging.getLogger("segjax")

PREEMPTING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""What announces that a process is about to be ended; Windows has one of them."""


class StopSignal:
    """Notes the signals while it is entered, and puts the handlers back.

    SIGTERM and SIGUSR1, which Slurm sends some time before it ends a job, are noted from the
    start; Ctrl-C only while there is something to save, and raises KeyboardInterrupt before
    and after. A second signal stops at once. In a run of many processes JAX notes SIGTERM
    itself, in any one of them, and agrees on a step; that is then the only place where they
    stop, and SIGUSR1 is handed on to JAX as SIGTERM.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StopSignal:
        for number in PREEMPTING:
            self._stack.enter_context(self._noting(number))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def interrupts(self) -> contextlib.AbstractContextManager[None]:
        """Notes Ctrl-C, too, while the context is entered."""
        return self._noting(signal.SIGINT)

    @contextlib.contextmanager
    def _noting(self, number: signal.Signals) -> Iterator[None]:
        handler: Callable[[int, FrameType | None], None] = self._note
        if sharding.process_count() > 1:
            if number in (signal.SIGTERM, signal.SIGINT):
                yield
                return
            handler = _hand_on
        before = signal.signal(number, handler)
        try:
            yield
        finally:
            signal.signal(number, before)

    @property
    def received(self) -> int | None:
        """The signal that came, the first of them."""
        return self._received[0] if self._received else None

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop; False in a run of many processes."""
        return bool(self._received)

    def at(self, step: int) -> bool:
        """Whether all processes stop after this step; each asks it once per step."""
        if sharding.process_count() > 1:
            return sharding.any_process_wants_to_stop(step)
        return self.requested

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._received:
            raise KeyboardInterrupt
        self._received.append(number)
        log.warning("Stopping at the next step, saving (again to stop at once).")


def _hand_on(number: int, frame: FrameType | None) -> None:
    """Handles a signal as if it were SIGTERM, which JAX's own handler takes."""
    os.kill(os.getpid(), signal.SIGTERM)
