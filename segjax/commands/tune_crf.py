"""Searches on a split for the values of --crf of --workdir; the last line is JSON."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    define_checkpoint,
    define_data,
    define_model,
    define_split,
    define_workdir,
    is_best,
    path_of,
    run_of,
)

THINGS = ("workdir",)


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    define_data(values)
    define_split(values, "the one that is evaluated during training")
    define_checkpoint(values)
    flags.DEFINE_integer(
        "num_images",
        100,
        "Number of images to search on.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "save", False, "Puts the values into the run's config.", flag_values=values
    )


def run(values: Flags) -> None:
    """Searches, and prints the values and JSON."""
    from segjax.runs.tune_crf import tune_run

    result = tune_run(
        run_of(values),
        split=values.split,
        best=is_best(values),
        num_images=values.num_images,
        save=values.save,
        cache_dir=path_of(values, "cache_dir"),
        data_root=path_of(values, "data_root"),
    )
    found = ", ".join(f"{k}={v!r}" for k, v in result["crf"].items())
    ending.say(f"crf = dict({found})")
    print_result(result)
