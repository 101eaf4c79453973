"""Searches on a split for the values of --crf of --workdir; the last line is JSON."""

from __future__ import annotations

from segjax.commands.shared_flags import Flags
from segjax.commands.tuning import define as define
from segjax.commands.tuning import search

THINGS = ("workdir",)


def run(values: Flags) -> None:
    """Searches, and prints the values and JSON."""
    from segjax.runs.tune_crf import tune_run

    search(values, tune_run, "crf")
