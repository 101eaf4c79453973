"""Describes the network of --config: layers, sizes, receptive field."""

from __future__ import annotations

import json

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import Flags, config_of, define_config

THINGS = ("config",)


def define(values: Flags) -> None:
    """Defines the flags."""
    define_config(values)
    flags.DEFINE_bool(
        "json", False, "Writes JSON instead of a table.", flag_values=values
    )


def run(values: Flags) -> None:
    """Prints the description."""
    from segjax.inspect.summary import table
    from segjax.runs.summary import summarize

    summary = summarize(config_of(values))
    ending.say(json.dumps(summary) if values.json else table(summary))
