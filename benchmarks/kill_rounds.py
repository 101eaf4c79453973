"""Kills a training at random moments, resumes it, and compares it with one that ran on.

    python benchmarks/kill_rounds.py --rounds=20
    python benchmarks/kill_rounds.py --rounds=3 --config=configs/unet_em.py:smoke --json=F

Each round starts the training in a process of its own and ends it with SIGKILL; every
second round waits for a save to begin and strikes within it. At last the training runs to
its end, and the hash of its parameters must be that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600.0
"""Seconds after which a training that neither saves nor ends is given up."""


def command(options: argparse.Namespace, workdir: Path, cache_dir: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "segjax.main",
        f"--config={options.config}",
        f"--config.num_steps={options.steps}",
        f"--config.checkpoint_every={options.checkpoint_every}",
        f"--config.eval_every={3 * options.checkpoint_every}",
        "--config.log_every=1",
        f"--workdir={workdir}",
        f"--cache_dir={cache_dir}",
    ]


def run_to_the_end(arguments: Sequence[str]) -> dict:
    """Runs a training, and returns what its last line says."""
    ended = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(f"The training failed:\n{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def saved_steps(workdir: Path) -> list[int]:
    """The steps whose checkpoint bears its final name."""
    folder = workdir / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written right now."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(not p.name.isdigit() for p in folder.iterdir())


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(process: subprocess.Popen, moments: Iterator[bool]) -> bool:
    """Waits until a moment comes; False where the process ended before."""
    deadline = time.monotonic() + PATIENCE
    for moment in moments:
        if moment:
            return True
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            process.kill()
            sys.exit("The training neither saves nor ends.")
        time.sleep(0.0005)
    return False


def moments_of(
    process: subprocess.Popen, workdir: Path, chance: random.Random, within: bool
) -> Iterator[bool]:
    """Becomes true within a save, or some steps later at a random moment."""
    log = workdir / "metrics.jsonl"
    before = lines(log)
    steps = chance.randint(1, 6)
    while lines(log) < before + steps:
        yield False
    if within:
        while True:
            while not saving(workdir):
                yield False
            time.sleep(chance.uniform(0, 0.03))
            process.send_signal(signal.SIGSTOP)  # else the save could end meanwhile
            if saving(workdir):
                break
            process.send_signal(signal.SIGCONT)
    else:
        time.sleep(chance.uniform(0, 0.3))
    yield True


def kill_once(
    arguments: Sequence[str], workdir: Path, chance: random.Random, within: bool
) -> dict:
    """One round; a row of the table."""
    kept = saved_steps(workdir)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, text=True
        )
        try:
            alive = wait_for(process, moments_of(process, workdir, chance, within))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        in_save = saving(workdir)
        errors.seek(0)
        stderr = errors.read()
    steps = [
        line.split()[1] for line in stderr.splitlines() if line.startswith("step ")
    ]
    resumed = [
        x.split()[-1].rstrip(".") for x in stderr.splitlines() if "Resuming" in x
    ]
    return {
        "killed": alive,
        "within a save": in_save,
        "kept before": kept,
        "resumed at": int(resumed[0]) if resumed else 0,
        "reached": int(steps[-1].split("/")[0]) if steps else None,
        "damaged": stderr.count("is damaged"),
        "traceback": "Traceback" in stderr,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--config", default="configs/unet_em.py:smoke")
    parser.add_argument("--steps", type=int, help="default: 12 for each round")
    parser.add_argument("--checkpoint_every", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--cache_dir", type=Path)
    parser.add_argument("--json", type=Path, help="a file for the outcome")
    options = parser.parse_args()
    options.steps = options.steps or 12 * options.rounds
    return options


def main() -> int:
    options = parse()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = options.cache_dir or Path(folder) / "data"
        calm = command(options, Path(folder) / "calm", cache_dir)
        expected = run_to_the_end(calm)
        workdir = Path(folder) / "killed"
        arguments = command(options, workdir, cache_dir)
        rows = []
        print("| round | within a save | resumed at | reached | damaged |")
        print("|---|---|---|---|---|", flush=True)
        for i in range(options.rounds):
            row = kill_once(arguments, workdir, chance, within=i % 2 == 1)
            rows.append(row)
            cells = (
                row[k] for k in ("within a save", "resumed at", "reached", "damaged")
            )
            print(f"| {i + 1} | {' | '.join(map(str, cells))} |", flush=True)
        found = run_to_the_end(arguments)
    kills = sum(row["killed"] for row in rows)
    lost = [
        row
        for row in rows
        if row["resumed at"] < max(row["kept before"], default=0) or row["traceback"]
    ]
    same = found["parameters_sha256"] == expected["parameters_sha256"]
    verdict = "the same parameters" if same else "OTHER PARAMETERS"
    print(
        f"\n{kills} kills in {options.rounds} rounds, {sum(r['within a save'] for r in rows)}"
        f" of them within a save; {len(lost)} rounds lost a checkpoint; {verdict}: "
        f"{found['parameters_sha256'][:16]} after {found['step']} steps."
    )
    if options.json:
        outcome = {"rounds": rows, "kills": kills, "same": same, "lost": len(lost)}
        options.json.write_text(json.dumps(outcome, indent=1) + "\n")
    return 0 if same and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
