"""Trains one run for each combination of values of some keys, or prints the commands."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax import ending
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    CONFIG,
    Flags,
    config_of,
    define_allow_code,
    define_config,
    define_data,
    define_workdir,
    path_of,
    read_config,
    workdir_of,
)
from segjax.errors import UserError

if TYPE_CHECKING:
    import ml_collections

    from segjax.runs.sweep import Sweep

THINGS = ("config", "workdir")


def define(values: Flags) -> None:
    """Defines the flags."""
    define_config(values)
    flags.DEFINE_multi_string(
        "over",
        [],
        "A key of the config and its values, KEY=VALUE;VALUE or KEY=FIRST..LAST. Given "
        "more than once, there is a run for each combination.",
        flag_values=values,
    )
    define_workdir(values)
    define_data(values)
    flags.DEFINE_enum(
        "print",
        None,
        ["commands", "slurm"],
        "Prints what would be run and runs nothing: a command a line, or an array job.",
        flag_values=values,
    )
    define_allow_code(values)


def run(values: Flags) -> None:
    """Trains all runs, and prints a table of them and JSON."""
    from segjax.runs.sweep import Sweep, SweepRun, combinations, folder_names
    from segjax.training.sharding import use_cpu

    use_cpu()  # the devices are for the runs
    config_of(values)
    folder = workdir_of(values)
    if not values.over:
        raise UserError(
            'Give a key and its values, as --over=seed=0..4 or --over="model.name=unet;fcn".'
        )
    chosen = combinations(values.over)
    shared = _shared_arguments(values)
    runs = []
    for name, over in zip(folder_names(chosen), chosen, strict=True):
        overrides = [f"--{CONFIG}.{key}={value}" for key, value in over.items()]
        config = _config(values, overrides)
        runs.append(SweepRun(name, over, [*shared, *overrides], config))
    sweep = Sweep(folder, runs)
    if values["print"].value:
        sweep.write()
        _print_commands(sweep, values["print"].value)
        return
    received = sweep.train()
    rows = sweep.rows()
    for line in _lines(rows, runs[0].config):
        ending.say(line)
    counts = _counts(rows)
    print_result({"runs": len(rows), **counts})
    if received == signal.SIGINT:
        sys.exit(ending.INTERRUPTED)
    sys.exit(1 if counts.get("failed") else 0)


def _shared_arguments(values: Flags) -> list[str]:
    """The arguments that all runs have."""
    shared = [f"--{CONFIG}={values[CONFIG].config_filename}", *_overrides(values)]
    for name in ("cache_dir", "data_root"):
        if (path := path_of(values, name)) is not None:
            shared.append(f"--{name}={path}")
    if values.allow_code:
        shared.append(f"--allow_code={','.join(values.allow_code)}")
    return shared


def _overrides(values: Flags) -> list[str]:
    """The arguments of this process that change keys for all runs."""
    prefixes = (f"--{CONFIG}.", f"--no{CONFIG}.")
    found, waits = [], False
    for argument in sys.argv[1:]:
        if waits:
            found[-1] += f"={argument}"
        waits = False
        if argument.startswith(prefixes):
            found.append(argument)
            is_switch = (
                values[argument.removeprefix("--").partition("=")[0]].boolean
                if argument.startswith(prefixes[0])
                else True
            )
            waits = "=" not in argument and not is_switch
    return found


def _config(values: Flags, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of one run, as its own command line will read it."""
    arguments = [
        f"--{CONFIG}={values[CONFIG].config_filename}",
        *_overrides(values),
        *overrides,
    ]
    own = Flags()
    define_config(own, arguments)
    try:
        read_config(own, arguments)
        own(["segjax", *arguments])
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(": ")[2].rstrip(".")
        raise UserError(
            f"--over: {' '.join(overrides)} does not fit ({reason})."
        ) from error
    return own[CONFIG].value


def _print_commands(sweep: Sweep, form: str) -> None:
    runs = sweep.unfinished()
    commands = [shlex.join(run.command(sweep.folder)) for run in runs]
    if form == "commands":
        for command in commands:
            ending.say(command)
        return
    ending.say(
        "\n".join(
            [
                "#!/bin/bash",
                f"#SBATCH --job-name={shlex.quote(sweep.folder.name)}",
                f"#SBATCH --array=0-{len(commands) - 1}",
                f"#SBATCH --chdir={shlex.quote(str(Path.cwd()))}",
                "#SBATCH --signal=B:TERM@120  # a run saves, and goes on when it is requeued",
                "#SBATCH --requeue",
                'case "$SLURM_ARRAY_TASK_ID" in',
                *(f"  {i}) exec {command} ;;" for i, command in enumerate(commands)),
                "esac",
            ]
        )
    )


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    statuses = [row["status"] for row in rows]
    return {status: statuses.count(status) for status in dict.fromkeys(statuses)}


def _lines(
    rows: Sequence[Mapping[str, Any]], config: ml_collections.ConfigDict
) -> list[str]:
    """A line for each run: its name, how it ended, and its metrics."""
    width = max(len(row["name"]) for row in rows)
    return [f"{row['name']:{width}}  {row['status']}" for row in rows]
