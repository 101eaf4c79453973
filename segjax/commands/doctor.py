"""Looks at the installation: versions, devices, memory, disk, and what is missing."""

from __future__ import annotations

import sys

from segjax import ending
from segjax.commands.shared_flags import Flags

THINGS = ()


def define(values: Flags) -> None:
    """Defines no flags."""


def run(values: Flags) -> None:
    """Prints what was found; the exit code is 1 where something is wrong."""
    from segjax.runs.doctor import examine, text_of

    found = examine()
    ending.say(text_of(found))
    sys.exit(1 if found.faults else 0)
