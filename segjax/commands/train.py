"""Trains the experiment of --config in --workdir, or resumes it; the last line is JSON."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from segjax import ending
from segjax.commands.process_flags import define_processes
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    CONFIG,
    Flags,
    before_parsing,
    config_of,
    define_allow_code,
    define_config,
    define_data,
    define_workdir,
    path_of,
    workdir_of,
)
from segjax.errors import UserError

if TYPE_CHECKING:
    import ml_collections

    from segjax.training.loop import Result

THINGS = ("config", "workdir")
CONTINUE_FROM = "continue_from"
REMOTE = ("workdir", "data_root")


def define(values: Flags) -> None:
    """Defines the flags."""
    define_config(values)
    define_workdir(values)
    define_data(values)
    flags.DEFINE_string(
        CONTINUE_FROM,
        None,
        "A run, or a model file, whose weights training begins with; without --config its "
        "config is taken, too.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "folds",
        None,
        "Trains as many networks, each of which validates on another part of the labelled "
        "images; evaluate and predict take their mean.",
        lower_bound=2,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "interrupted_exit_code",
        0,
        "Exit code where SIGTERM or SIGUSR1 ended the run before its last step.",
        lower_bound=0,
        upper_bound=255,
        flag_values=values,
    )
    flags.DEFINE_string(
        "profile",
        None,
        "STEP:COUNT: traces so many steps from that one on, into profile/ of --workdir, for "
        "xprof and Perfetto.",
        flag_values=values,
    )
    define_allow_code(values)
    define_processes(values)


def complete(arguments: list[str]) -> list[str]:
    """Adds the config of --continue_from to arguments that name no other."""
    run, config = (before_parsing(arguments, flag) for flag in (CONTINUE_FROM, CONFIG))
    if not run or config is not None:
        return arguments
    from segjax.runs import run_config

    return [f"--{CONFIG}={run_config.__file__}:{run}", *arguments]


def run(values: Flags) -> None:
    """Trains, and exits."""
    from segjax.config import with_leave
    from segjax.runs.initialization import continued
    from segjax.runs.train import train

    config, workdir = config_of(values), workdir_of(values)
    config = with_leave(config, values.allow_code)  # that of --continue_from needs it
    if given := path_of(values, CONTINUE_FROM):
        config = continued(config, given)
    data = path_of(values, "cache_dir"), path_of(values, "data_root")
    leave = values.allow_code
    if values.folds is not None:
        if values.profile is not None:
            raise UserError("--profile is for one run: leave out --folds.")
        result = _train_folds(config, workdir, values.folds, *data, allow_code=leave)
    else:
        result = train(config, workdir, *data, allow_code=leave, profile=values.profile)
        early = {"stopped_early": result.stopped_early} if result.stopped_early else {}
        print_result(
            {
                "step": result.step,
                "parameters_sha256": result.parameters_sha256,
                "interrupted": result.interrupted,
                **early,
                **result.metrics,
            }
        )
    if result.signal == signal.SIGINT:
        sys.exit(ending.INTERRUPTED)
    sys.exit(values.interrupted_exit_code if result.interrupted else 0)


def _train_folds(
    config: ml_collections.ConfigDict,
    workdir: Path,
    count: int,
    *data: str | None,
    allow_code: list[str],
) -> Result:
    """Trains the folds and prints their mean and spread; returns how the last one ended."""
    from segjax.runs.folds import train_folds

    results, summary = train_folds(config, workdir, count, *data, allow_code=allow_code)
    result = results[-1]
    for name, value in summary.get("mean", {}).items():
        ending.say(f"{name:30} {value:.4f} +- {summary['std'][name]:.4f}")
    spread = {f"std/{name}": value for name, value in summary.get("std", {}).items()}
    print_result(
        {
            "folds": len(results),
            "step": result.step,
            "interrupted": result.interrupted,
            **summary.get("mean", {}),
            **spread,
        }
    )
    return result


def remedy(values: Flags) -> str:
    """Says what helps where there is not enough memory."""
    from segjax.runs import remedies

    return remedies.for_training(config_of(values))
