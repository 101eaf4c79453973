"""Lists what a config can name: models, losses, augmentations, configs, ..."""

from __future__ import annotations

import textwrap

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import Flags

THINGS = ("kind", "name")
WIDTH = 96
"""Of a line, in characters."""


def define(values: Flags) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "kind", None, "Of which parts; without it all kinds.", flag_values=values
    )
    flags.DEFINE_string(
        "name", None, "Describes one of them, with its arguments.", flag_values=values
    )


def run(values: Flags) -> None:
    """Prints the names."""
    from segjax.runs.listing import KINDS, described, names

    if values.name is not None:
        ending.say(described(values.kind, values.name))
        return
    if values.kind is None:
        ending.say("segjax list KIND [NAME], where KIND is one of\n")
        width = max(map(len, KINDS))
        ending.say("\n".join(f"  {kind:{width}}  {KINDS[kind]}" for kind in KINDS))
        return
    found = names(values.kind)
    width = max(map(len, found), default=0)
    for name, text in found.items():
        indent = " " * (width + 4)
        lines = textwrap.wrap(
            f"  {name:{width}}  {text}", WIDTH, subsequent_indent=indent
        )
        ending.say("\n".join(lines))
