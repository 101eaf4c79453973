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
    from segjax.runs.sweep import Sweep, SweepRun
    from segjax.runs.sweep_values import combinations, folder_names
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
    for line in _lines(sweep, rows):
        ending.say(line)
    counts = _counts(rows)
    print_result({"runs": len(rows), **counts})
    if received == signal.SIGINT:
        sys.exit(ending.INTERRUPTED)
    sys.exit(1 if counts.get("failed") else 0)


def _shared_arguments(values: Flags) -> list[str]:
    """The arguments that all runs have."""
    shared = _experiment(values)
    for name in ("cache_dir", "data_root"):
        if (path := path_of(values, name)) is not None:
            shared.append(f"--{name}={path}")
    if values.allow_code:
        shared.append(f"--allow_code={','.join(values.allow_code)}")
    return shared


def _experiment(values: Flags) -> list[str]:
    """The arguments of this process that name the config and change keys for all runs."""
    flag: Any = values[CONFIG]
    found = [f"--{CONFIG}={flag.config_filename}"]
    prefixes = tuple(f"--{no}{CONFIG}." for no in ("", "no"))
    waits = False
    for argument in sys.argv[1:]:
        if waits:
            found[-1] += f"={argument}"
        waits = False
        if argument.startswith(prefixes):
            found.append(argument)
            key = argument.removeprefix("--")
            waits = key in values and not values[key].boolean
    return found


def _config(values: Flags, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of one run, as its own command line will read it."""
    arguments = [*_experiment(values), *overrides]
    own = Flags()
    define_config(own, arguments)
    try:
        read_config(own, arguments)
        own(["segjax", *arguments])
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(": ")[2].rstrip(".")
        given = " ".join(overrides).replace(f"--{CONFIG}.", "")
        raise UserError(f"--over: {given} does not fit ({reason}).") from error
    return own[CONFIG].value


def _print_commands(sweep: Sweep, form: str) -> None:
    runs = sweep.unfinished()
    commands = [shlex.join(run.command(sweep.folder)) for run in runs]
    if not commands:
        raise UserError(
            f"All {len(sweep.runs)} runs of the sweep are finished already."
        )
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


def _lines(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each run: its name, how it ended, and the metric that marks the best."""
    from segjax.runs.measured import last_evaluation
    from segjax.tasks.table import default_metric

    metric = default_metric(sweep.runs[0].config)
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'run':{width}}  {'status':11}  {metric}"]
    for row in rows:
        found = last_evaluation(sweep.folder / row["name"])
        value = f"{found[metric]:.4f}" if metric in found else ""
        lines.append(f"{row['name']:{width}}  {row['status']:11}  {value}".rstrip())
    return lines
