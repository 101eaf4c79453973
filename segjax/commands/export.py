"""Writes a checkpoint of --workdir as one file, --output, which others can use like a run."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_overwrite,
    define_workdir,
    required,
    workdir_of,
)

THINGS = ("workdir", "output")


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    flags.DEFINE_string(
        "output", None, "The file to write, ending in .segjax.", flag_values=values
    )
    define_checkpoint(values, "best")
    flags.DEFINE_string(
        "description",
        "",
        "What the card in the file says first, such as what the images show.",
        flag_values=values,
    )
    define_overwrite(values)
    define_allow_code(values)


def run(values: Flags) -> None:
    """Exports, and prints JSON."""
    from segjax.runs.export import export_run

    output = required(values, "output", "the file to write, ending in .segjax")
    result = export_run(
        workdir_of(values),
        output,
        **checkpoint_of(values),
        description=values.description,
        overwrite=values.overwrite,
        allow_code=values.allow_code,
    )
    ending.say(f"Wrote {output}, {result['bytes'] / 1e6:.1f} MB")
    print_result(result)
