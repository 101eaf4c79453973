"""Two libraries, or two checkouts of segjax, take turns at the same work.

Each has a process of its own, in which the C library keeps freed memory, as the command
line of segjax has it: without that both would touch all their memory anew at each step.

A change of the machine's load then meets both, and each pair of turns gives one ratio.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.training.malloc import keep_freed_memory


def serve(prepare: Callable[[], tuple[Callable[[], Any], float]]) -> None:
    """The worker's side: times as many runs as each line of stdin asks for.

    Args:
      prepare: gives what to time (it waits for its result), and a number by which to
        see that both libraries do the same.
    """
    keep_freed_memory()
    start = time.perf_counter()
    run, check = prepare()
    run()
    ready = time.perf_counter() - start
    print(json.dumps({"check": check, "ready": ready}), flush=True)
    for line in sys.stdin:
        run()  # Caches are cold after the other's turn.
        seconds, of_cpu = [], []
        for _ in range(int(line)):
            start, used = time.perf_counter(), time.process_time()
            run()
            seconds.append(time.perf_counter() - start)
            of_cpu.append(time.process_time() - used)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = [*map(statistics.median, (seconds, of_cpu)), peak]
        print(json.dumps(found), flush=True)


def peak_megabytes(command: Sequence[str]) -> float:
    """Most memory of a worker that is asked to measure that (`print_peak`)."""
    found = subprocess.run(
        [sys.executable, *command, "--peak"],
        check=True,
        capture_output=True,
        text=True,
        env=environment_of(command),
    )
    return float(found.stdout.splitlines()[-1])


def environment_of(command: Sequence[str]) -> dict[str, str]:
    """The environment of a worker, which imports segjax from its program's checkout."""
    checkout = Path(command[0]).resolve().parent.parent
    return os.environ | {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": str(checkout),
    }


def in_words(row: Mapping[str, Any]) -> str:
    """The result of `compare`, as the programs print it; with peak memory where it is known."""
    peaks = row.get("peak_megabytes", {})
    each = [
        f"{name} {seconds:.4g} s" + (f", {peaks[name]:.0f} MB" if peaks else "")
        for name, seconds in row["seconds"].items()
    ]
    low, high = row["ratio_range"]
    return (
        f"{', '.join(each)}, ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f}), "
        f"of processor time {row['cpu_ratio']:.2f}"
    )


def beside(
    commands: Mapping[str, Sequence[str]], other: str | None
) -> dict[str, Sequence[str]]:
    """Lets segjax of another checkout take the place of the other library, if asked to.

    Each checkout runs its own benchmark program, since modules may have moved.

    Args:
      commands: of the two workers, by library; each begins with the program's file.
      other: folder of the other checkout; None: the library stays.
    """
    if other is None:
        return dict(commands)
    program, *options = commands["segjax"]
    theirs = Path(other).resolve() / "benchmarks" / Path(program).name
    return {"segjax": commands["segjax"], "other": [str(theirs), *options]}


class Worker:
    """A process that runs `serve`."""

    def __init__(self, command: Sequence[str]):
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_of(command),
        )
        self.start = json.loads(self.answer())
        self.peak: list[float] = []

    def answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with code {self.process.wait()}")
        return line

    def seconds(self, steps: int) -> tuple[float, float]:
        """Medians of a number of runs: seconds, and seconds of all cores together."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        wall, cpu, *self.peak = json.loads(self.answer())  # older programs say none
        return wall, cpu

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(
    commands: Mapping[str, Sequence[str]], *, rounds: int, steps: int, allowed: float
) -> dict[str, Any]:
    """Lets two workers take turns; a ratio below 1 says that the first one is faster.

    Args:
      commands: of the two, by name: "segjax" and what it is compared with.
      rounds: pairs of turns.
      steps: runs of each turn.
      allowed: largest relative difference of the two numbers to check.
    """
    workers = {name: Worker(command) for name, command in commands.items()}
    checks = {name: worker.start["check"] for name, worker in workers.items()}
    ours, theirs = checks.values()
    if abs(ours - theirs) > allowed * abs(theirs):
        raise SystemExit(f"not the same network: losses {ours} and {theirs}")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    of_cpu: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            wall, cpu = worker.seconds(steps)
            seconds[name].append(wall)
            of_cpu[name].append(cpu)
    ready = {name: worker.start["ready"] for name, worker in workers.items()}
    peaks = {name: worker.peak[0] for name, worker in workers.items() if worker.peak}
    for worker in workers.values():
        worker.close()
    ratios = _ratios(seconds)
    return {
        **({"peak_megabytes": peaks} if len(peaks) == len(workers) else {}),
        "seconds": {name: statistics.median(s) for name, s in seconds.items()},
        "fastest_seconds": {name: min(s) for name, s in seconds.items()},
        "cpu_seconds": {name: statistics.median(s) for name, s in of_cpu.items()},
        "first_run_seconds": ready,
        "loss": checks,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "cpu_ratio": statistics.median(_ratios(of_cpu)),
    }


def _ratios(seconds: Mapping[str, list[float]]) -> list[float]:
    """Of each pair of turns."""
    return [ours / theirs for ours, theirs in zip(*seconds.values(), strict=True)]
