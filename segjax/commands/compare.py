"""Compares runs: what differs in their configs, means over seeds, differences over images."""

from __future__ import annotations

import json

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import (
    Flags,
    define_allow_code,
    define_data,
    define_split,
    path_of,
)
from segjax.errors import UserError

THINGS = ()
MORE = "runs"


def define(values: Flags) -> None:
    """Defines the flags."""
    flags.DEFINE_multi_string(
        "runs", [], "The folder of a run or a sweep; one or more.", flag_values=values
    )
    flags.DEFINE_string(
        "by",
        None,
        "Keys that tell settings apart, KEY;KEY; default: all that differ, but the seed.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "metrics",
        None,
        "What is compared, NAME;NAME; default: what marks the best checkpoint.",
        flag_values=values,
    )
    define_split(values, "the one that is evaluated during training")
    flags.DEFINE_bool(
        "images",
        False,
        "Measures runs image by image that were not yet, and keeps that in their folders.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        "text",
        ["text", "markdown", "json"],
        "How it is printed.",
        flag_values=values,
    )
    define_data(values)
    define_allow_code(values)


def run(values: Flags) -> None:
    """Compares, and prints tables or JSON."""
    from segjax.runs.compare import compare_runs, find_runs
    from segjax.runs.comparison_text import comparison_text
    from segjax.runs.measured import measure_images

    if not values.runs:
        raise UserError("Give the folders of runs, as in segjax compare runs/a runs/b.")
    if values.images:
        for folder in find_runs(values.runs):
            measure_images(
                folder,
                values.split,
                cache_dir=path_of(values, "cache_dir"),
                data_root=path_of(values, "data_root"),
                allow_code=values.allow_code,
            )
    comparison = compare_runs(
        values.runs,
        by=_listed(values.by),
        metrics=_listed(values.metrics),
        split=values.split,
    )
    if values.format == "json":
        ending.say(json.dumps(comparison.to_dict()))
    else:
        markdown = values.format == "markdown"
        ending.say(comparison_text(comparison, markdown=markdown))


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()] if text else []
