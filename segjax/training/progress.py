"""The progress of a run, for the user to watch."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from segjax.errors import escape_control


class Progress:
    """A bar with the time left on a terminal, a plain line every few seconds elsewhere.

    Args:
      total: steps of the whole run.
      start: steps that were done before.
      stream: where it is shown.
      unit: what is counted.
    """

    WIDTH = 24
    SECONDS = 0.2
    LINE_SECONDS = 10.0

    def __init__(
        self,
        total: int,
        start: int = 0,
        stream: TextIO | None = None,
        unit: str = "steps",
    ):
        self._stream = sys.stderr if stream is None else stream
        self._total, self._first, self._unit = total, start, unit
        self._began = self._drawn = 0.0
        self._is_terminal = self._stream.isatty()
        self._values = ""

    def update(self, step: int) -> None:
        """Redraws the bar; the clock starts at the first call, after compilation."""
        now = time.monotonic()
        if not self._began:
            self._began, self._first, self._drawn = now, step, now
        if self._is_terminal and (
            now - self._drawn > self.SECONDS or step == self._total
        ):
            self._drawn = now
            filled = self.WIDTH * step // self._total
            bar = "█" * filled + "░" * (self.WIDTH - filled)
            text = f"{bar} {step}/{self._total} {self._values} {self._left(step)}"
            self._stream.write(f"\r\x1b[2K{escape_control(text)}")
            self._stream.flush()
        elif not self._is_terminal and now - self._drawn > self.LINE_SECONDS:
            self._drawn = now
            self.say(f"{self._unit} {step}/{self._total}  {self._left(step)}")

    def note(self, step: int, values: Mapping[str, str]) -> None:
        """Shows the newest values."""
        self._values = "  ".join(f"{name} {value}" for name, value in values.items())
        if not self._is_terminal:
            self._drawn = time.monotonic()
            self.say(f"step {step}/{self._total}  {self._values}  {self._left(step)}")

    def say(self, text: str) -> None:
        """Writes a line of its own, above the bar."""
        clear = "\r\x1b[2K" if self._is_terminal else ""
        self._stream.write(f"{clear}{escape_control(text)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the bar's line."""
        if self._is_terminal:
            self._stream.write("\n")

    def _left(self, step: int) -> str:
        done = step - self._first
        if done <= 0 or not self._began:
            return ""
        rate = done / max(time.monotonic() - self._began, 1e-9)
        seconds = (self._total - step) / rate
        return f"{rate:.2f} {self._unit}/s, {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Formats a duration for people.

    Example:
      >>> duration(42), duration(125), duration(7500)
      ('42 s', '2 min 5 s', '2 h 5 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def in_gflop(gflops: float) -> str:
    """Formats a cost so that a tiny network's is not 0.

    Example:
      >>> in_gflop(1301.26), in_gflop(0.012345)
      ('1,301.3 GFLOP', '0.0123 GFLOP')
    """
    return f"{gflops:,.1f} GFLOP" if gflops >= 1 else f"{gflops:.3g} GFLOP"
