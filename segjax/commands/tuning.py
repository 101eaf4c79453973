"""What the verbs that search for values of a run have in common: flags, and what is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import flags

from segjax import ending
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_data,
    define_model,
    define_split,
    define_workdir,
    path_of,
    run_of,
)


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    define_data(values)
    define_split(values, "the one that is evaluated during training")
    define_checkpoint(values)
    define_allow_code(values)
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


def search(values: Flags, tune: Callable[..., dict[str, Any]], group: str) -> None:
    """Searches, and prints the values and JSON.

    Args:
      values: the flags.
      tune: the search, from `segjax.runs`.
      group: of the config, whose values it finds.
    """
    result = tune(
        run_of(values),
        split=values.split,
        **checkpoint_of(values),
        num_images=values.num_images,
        save=values.save,
        allow_code=values.allow_code,
        cache_dir=path_of(values, "cache_dir"),
        data_root=path_of(values, "data_root"),
    )
    found = ", ".join(f"{k}={v!r}" for k, v in result[group].items())
    ending.say(f"{group} = dict({found})")
    print_result(result)
