"""SIGTERM and SIGINT, as a question that a run asks where it can stop."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType

from segjax.training import sharding

log = logging.getLogger("segjax")


class StopSignal:
    """Notes the signals while it is entered, and puts the handlers back.

    SIGTERM is noted from the start; Ctrl-C only while there is something to save, and
    raises KeyboardInterrupt before and after. A second signal stops at once. In a run of
    many processes JAX notes SIGTERM itself and agrees on a step; that is then the only
    place where they stop.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StopSignal:
        self._stack.enter_context(self._noting(signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def interrupts(self) -> contextlib.AbstractContextManager[None]:
        """Notes Ctrl-C, too, while the context is entered."""
        return self._noting(signal.SIGINT)

    @contextlib.contextmanager
    def _noting(self, number: signal.Signals) -> Iterator[None]:
        if sharding.process_count() > 1:
            yield
            return
        before = signal.signal(number, self._note)
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
