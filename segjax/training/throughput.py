"""How fast a run trains, without what it does besides: evaluating, saving, writing its log."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, TypeVar

import jax

T = TypeVar("T")

TIMINGS = (
    "steps_per_second",
    "images_per_second",
    "data_wait_fraction",
    "tflops_per_second",
    "mfu",
)
"""The names of what is measured; two runs of the same bits differ in these alone."""

PEAK_TFLOPS = {
    "Tesla T4": 65,
    "Tesla V100-SXM2": 125,
    "NVIDIA A100": 312,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H100": 989,
    "NVIDIA H200": 989,
    "NVIDIA B200": 2250,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5p": 459,
    "TPU v5": 459,
    "TPU v6 lite": 918,
}
"""TFLOP/s of dense products in bfloat16 (float16 where there is none), by the first words of a
device's kind; of the vendors' data sheets."""

UNLIKE = re.compile(r" MIG |H200 NVL|TPU v4 lite")
"""Kinds that begin as one of `PEAK_TFLOPS`, and are less."""


def peak_tflops(kind: str) -> float | None:
    """The most TFLOP/s of a device in 16 bits; None where it is not known.

    Example:
      >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 PCIe"), peak_tflops("cpu")
      (989, 756, None)
      >>> peak_tflops("NVIDIA L40"), peak_tflops("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
      (None, None)
    """
    if UNLIKE.search(kind):
        return None
    known = [name for name in PEAK_TFLOPS if re.match(rf"{name}\b", kind)]
    return PEAK_TFLOPS[max(known, key=len)] if known else None


class StepClock:
    """Measures the steps between two lines of the log.

    Steps are started before the ones before them are done, so a thread waits for the result of
    each: data is waited for only while the devices have nothing to do.
    """

    def __init__(self, images: int, peak: float | None):
        """Starts the thread.

        Args:
          images: of one step, over all devices.
          peak: TFLOP/s of all devices together, see `peak_tflops`; None where not known.
        """
        self._images, self._peak = images, peak
        self._began = perf_counter()
        self._steps, self._flops, self._paused, self._waited = 0, 0.0, 0.0, 0.0
        self._asked = self._arrived = self._began
        self._started: queue.Queue[tuple[float, float, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def fetch(self, next_batch: Callable[[], T]) -> T:
        """Calls what brings the next batch to the devices."""
        self._asked = perf_counter()
        batch = next_batch()
        self._arrived = perf_counter()
        return batch

    def add(self, result: Any, flops: float) -> None:
        """Notes that a step was started.

        Args:
          result: arrays that are ready once the step is done.
          flops: operations of the step on all devices.
        """
        self._steps += 1
        self._flops += flops
        self._started.put((self._asked, self._arrived, result))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time that the block takes."""
        began = perf_counter()
        try:
            yield
        finally:
            self._paused += perf_counter() - began

    def measure(self) -> dict[str, float]:
        """Measures the steps since the last call; all of them are done.

        Returns:
          The numbers of `TIMINGS`; those that are not known are left out.
        """
        self._started.join()
        now = perf_counter()
        seconds = max(now - self._began - self._paused, 1e-9)
        found = {
            "steps_per_second": self._steps / seconds,
            "images_per_second": self._images * self._steps / seconds,
            "data_wait_fraction": min(self._waited / seconds, 1.0),
        }
        if self._flops:
            found["tflops_per_second"] = self._flops / 1e12 / seconds
            if self._peak:
                found["mfu"] = found["tflops_per_second"] / self._peak
        self._began, self._paused, self._waited = now, 0.0, 0.0
        self._steps, self._flops = 0, 0.0
        return found

    def close(self) -> None:
        """Ends the thread."""
        self._started.put(None)

    def _watch(self) -> None:
        done = self._began  # the step before
        while (item := self._started.get()) is not None:
            asked, arrived, result = item
            self._waited += max(0.0, arrived - max(asked, done))
            with contextlib.suppress(Exception):  # the loop meets it, too
                jax.block_until_ready(result)
            done = perf_counter()
            del item, result
            self._started.task_done()


def in_words(timings: dict[str, float]) -> dict[str, str]:
    """The timings as a line of the log has them.

    Example:
      >>> in_words({"images_per_second": 41.25, "data_wait_fraction": 0.02, "mfu": 0.4})
      {'images/s': '41.2', 'waits for data': '2 %', 'MFU': '40.0 %'}
    """
    shown = {
        "images_per_second": ("images/s", "{:.3g}", 1),
        "data_wait_fraction": ("waits for data", "{:.0f} %", 100),
        "tflops_per_second": ("TFLOP/s", "{:.3g}", 1),
        "mfu": ("MFU", "{:.1f} %", 100),
    }
    return {
        words: form.format(timings[name] * factor)
        for name, (words, form, factor) in shown.items()
        if name in timings
    }
