"""Fits on a split how sure the predictions of --workdir are; the last line is JSON."""

from __future__ import annotations

from segjax.commands.shared_flags import Flags
from segjax.commands.tuning import define as define
from segjax.commands.tuning import search

THINGS = ("workdir",)


def run(values: Flags) -> None:
    """Fits, and prints the value and JSON."""
    from segjax.runs.tune_temperature import tune_temperature_run

    search(values, tune_temperature_run, "calibration")
