"""Writes a page of HTML about a run: data, curves, metrics, worst images, config."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_data,
    define_measure,
    define_overwrite,
    define_split,
    define_tile,
    define_workdir,
    path_of,
    workdir_of,
)

THINGS = ("workdir",)


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    flags.DEFINE_string(
        "output",
        None,
        "The file to write; default: report.html in the folder of the run.",
        flag_values=values,
    )
    define_data(values)
    define_split(values, "the one that is evaluated during training")
    define_checkpoint(values)
    define_measure(values)
    define_tile(values)
    define_overwrite(values)
    define_allow_code(values)


def run(values: Flags) -> None:
    """Measures, and says where the page is."""
    from segjax.runs.report import report_run

    path = report_run(
        workdir_of(values),
        path_of(values, "output"),
        split=values.split,
        **checkpoint_of(values),
        measure=values.measure,
        tile=values.tile,
        cache_dir=path_of(values, "cache_dir"),
        data_root=path_of(values, "data_root"),
        overwrite=values.overwrite,
        allow_code=values.allow_code,
    )
    ending.say(f"Report: {path}")
