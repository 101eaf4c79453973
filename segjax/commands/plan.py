"""Compiles a step of --config for machines that need not be at hand, and says what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import (
    Flags,
    config_of,
    define_config,
    required,
)

THINGS = ("config", "topology")

GIB = 2**30


def define(values: Flags) -> None:
    """Defines the flags."""
    define_config(values)
    flags.DEFINE_string(
        "topology",
        None,
        "What it is compiled for: TPUs as v5e:4x4 (v4, v5e, v5p, v6e), GPUs as h200x8 (h100, "
        "h200), or CPU devices as cpux4.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Over all devices; default: that of the config.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "largest",
        False,
        "Looks for the largest batch that fits, too, with a few more compilations.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "optimized",
        False,
        "Compiles for a TPU as a run there does, which takes minutes; without the estimate of "
        "time, which is not usable then.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "json", False, "Writes JSON instead of a table.", flag_values=values
    )


def run(values: Flags) -> None:
    """Compiles, and prints what was found."""
    import jax

    from segjax.training.sharding import use_cpu

    use_cpu()  # a device that is at hand is left to those who train on it
    # A program for a device that is not here could be written there, but not read again.
    jax.config.update("jax_enable_compilation_cache", False)
    from segjax.commands.results import print_result
    from segjax.runs.plan import plan

    config = config_of(values)
    topology = required(values, "topology", "a machine such as v5e:4x4 or h200x8")
    report = plan(
        config,
        topology,
        values.batch_size,
        find_largest=values.largest,
        optimized=values.optimized,
    )
    if values.json:
        print_result(report)
    else:
        ending.say("\n".join(lines(report)))


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Writes a report for people.

    Args:
      report: of `segjax.runs.plan.plan`.

    Yields:
      The lines of a table.
    """
    height, width = report["input_size"]
    memory, total = report["memory"], report["device_memory"]
    each = report["batch_size"] // report["devices"]
    rows = {
        "step": f"{report['config']}, images of {height}x{width}, "
        f"batch {report['batch_size']} ({each} a device)",
        "machine": f"{report['devices']} x {report['kind']}",
        "peak memory": f"{_gib(memory['peak'])} a device{_fits(report['fits'], total)}",
    }
    parts = ("arguments", "outputs", "temporaries", "program")
    if parts[0] in memory:
        rows["of it"] = ", ".join(f"{name} {_gib(memory[name])}" for name in parts)
    if report["largest_batch_size"] is not None:
        rows["largest batch"] = f"{report['largest_batch_size']} over all devices"
    if report.get("flops"):
        rows["operations"] = f"{report['flops'] / 1e12:,.2f} TFLOP a device"
    if report.get("bytes_accessed"):
        rows["memory traffic"] = f"{report['bytes_accessed'] / 1e9:,.1f} GB a device"
    if report["seconds_bound"]:
        bounds = report["seconds_bound"].items()
        rows["at least"] = ", ".join(
            f"{1e3 * x:,.1f} ms by {name}" for name, x in bounds
        )
    if report.get("seconds_estimated"):
        rows["XLA's estimate"] = f"{1e3 * report['seconds_estimated']:,.1f} ms"
    if "operators" in report:
        rows |= _of_program(report)
    rows["took"] = (
        f"{report['seconds_lowering']:.0f} s to trace and lower, "
        f"{report['seconds_compiling']:.0f} s to compile"
    )
    width = max(map(len, rows))
    yield from (f"{name:{width}}  {text}" for name, text in rows.items())


def _of_program(report: Mapping[str, Any]) -> dict[str, str]:
    """The rows about the operators of the program."""
    rows = {}
    if report["padding"] is not None:
        rows["padding"] = f"{report['padding']:.0%} of the memory of results"
    collectives = [
        f"{row['count']} {name} of {row['bytes'] / 1e6:,.1f} MB together"
        for name, row in report["collectives"].items()
    ]
    operators = [f"{count} {name}" for name, count in report["operators"].items()]
    return {
        **rows,
        "collectives": ", ".join(collectives) or "none",
        "operators": ", ".join(operators),
        "unexpected": ", ".join(report["unexpected"]) or "nothing",
    }


def _fits(fits: bool | None, total: float | None) -> str:
    if total is None:
        return ""
    return f", which {'fits into' if fits else 'does not fit into'} {_gib(total)}"


def _gib(count: float) -> str:
    return f"{count / GIB:,.2f} GiB"
