"""The result that a verb prints for programs."""

from __future__ import annotations

from typing import Any

from segjax import ending


def print_result(result: dict[str, Any]) -> None:
    """Prints one JSON object, the last line of standard output."""
    from segjax.training.writer import json_line

    ending.say(json_line(result).rstrip())
