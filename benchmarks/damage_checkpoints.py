"""Damages every file and folder of a checkpoint in many ways, and loads and resumes the run.

    python benchmarks/damage_checkpoints.py --folder=runs/damage
    python benchmarks/damage_checkpoints.py --folder=runs/damage --every=7 --json=F

A run with evaluated checkpoints of steps 2 and 4 is made once. In a copy of it one file
or folder of the newest is damaged; then the newest checkpoint is loaded, the best is, and
the training is resumed. Whatever the damage, each ends with the bits of a whole checkpoint
or in a sentence, and a resumed training ends with the bits of one that nothing happened to.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.training import loop

ROOT = Path(__file__).resolve().parent.parent

STEPS = 6


def write(content: bytes) -> Callable[[Path], None]:
    """A damage that puts other content into a file."""
    return lambda path: path.write_bytes(content) and None


def cut(path: Path) -> None:
    """Halves a file."""
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    """Turns bits of bytes all through a file."""
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content), max(1, len(content) // 7)):
        content[i] ^= 0x5A
    path.write_bytes(content)


def delete(path: Path) -> None:
    """Removes a file, or a folder with all that it holds."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def become_folder(path: Path) -> None:
    """Puts an empty folder in the place of a file."""
    path.unlink()
    path.mkdir()


def become_file(path: Path) -> None:
    """Puts a file in the place of a folder."""
    shutil.rmtree(path)
    path.write_bytes(b"{}")


def empty_folder(path: Path) -> None:
    """Takes all that a folder holds out of it."""
    shutil.rmtree(path)
    path.mkdir()


def lengthen_numbers(path: Path) -> None:
    """Makes every number of a JSON file a huge one."""
    content = path.read_bytes()
    digits = b"0123456789"
    path.write_bytes(
        b"".join(b"9" * 300 if x in digits else bytes([x]) for x in content)
    )


FILES = {
    "emptied": write(b""),
    "cut": cut,
    "garbled": garble,
    "garbage": write(bytes(range(256)) * 4),
    "a list": write(b"[1, 2, 3]"),
    "a number": write(b"1e999"),
    "null": write(b"null"),
    "an empty object": write(b"{}"),
    "nested deeply": write(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "huge numbers": lengthen_numbers,
    "deleted": delete,
    "a folder": become_folder,
}
FOLDERS = {"deleted": delete, "a file": become_file, "emptied": empty_folder}


def damages(checkpoint: Path) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yields path within a checkpoint, name of the damage, damage."""
    for path in [*sorted(checkpoint.rglob("*")), checkpoint]:
        for name, damage in (FOLDERS if path.is_dir() else FILES).items():
            yield str(path.relative_to(checkpoint)), name, damage


def experiment() -> ml_collections.ConfigDict:
    """Seconds of training; evaluated and saved at every second step."""
    config = config_lib.load(str(ROOT / "configs" / "unet_em.py:smoke"))
    config.num_steps, config.checkpoint_every, config.eval_every = STEPS, 2, 2
    config.evaluation.cell_class = None
    return config


@contextlib.contextmanager
def fast() -> Iterator[None]:
    """Compiles once for all trainings, and plots no pictures."""
    compile_step, time_step, plot = loop.compile_step, loop.time_step, loop.plot_run
    programs: list[object] = []

    def once(*arguments: object) -> object:
        if not programs:
            programs.append(compile_step(*arguments))
        return programs[0]

    loop.compile_step, loop.time_step = once, lambda *_: 0.0
    loop.plot_run = lambda workdir, *_: [workdir]
    try:
        yield
    finally:
        loop.compile_step, loop.time_step, loop.plot_run = (
            compile_step,
            time_step,
            plot,
        )


def make_run(workdir: Path, cache_dir: str) -> dict[int, str]:
    """Leaves a run with checkpoints of steps 2 and 4, after it was trained to its end once.

    Returns:
      The hashes of the parameters, by step.
    """
    config = experiment()
    hashes = {}
    for steps in (2, 4, STEPS):
        config.num_steps = steps
        hashes[steps] = train(config, workdir, cache_dir).parameters_sha256
        if steps == 4:
            shutil.copytree(workdir, workdir.with_name("at four"))
    shutil.rmtree(workdir)
    workdir.with_name("at four").rename(workdir)
    return hashes


def outcome(action: Callable[[], tuple[int, str]], hashes: dict[int, str]) -> str:
    """The outcome of loading or resuming: a step, a sentence, or a fault."""
    try:
        step, sha256 = action()
    except UserError:
        return "sentence"
    except Exception as error:
        return f"fault: {type(error).__name__}: {str(error)[:80]}"
    return f"step {step}" if hashes[step] == sha256 else "fault: other bits"


def try_damage(
    run: Path, cache_dir: str, hashes: dict[int, str], where: str, damage: Callable
) -> dict[str, str]:
    """Damages a copy of the run, and says how loading and resuming ended."""

    def load(best: bool) -> tuple[int, str]:
        trained = load_trained(copy, best=best)
        return trained.step, trained.parameters_sha256

    def resume() -> tuple[int, str]:
        result = train(experiment(), copy, cache_dir)
        return result.step, result.parameters_sha256

    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run, copy)
        damage(copy / "checkpoints" / "4" / where)
        return {
            "latest": outcome(lambda: load(best=False), hashes),
            "best": outcome(lambda: load(best=True), hashes),
            "resumed": outcome(resume, hashes),
        }


def sweep(folder: Path, cache_dir: str, every: int = 1) -> list[dict[str, str]]:
    """Tries every n-th damage; returns a row for each."""
    run = folder / "run"
    rows = []
    with fast(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        hashes = make_run(run, cache_dir)
        todo = list(damages(run / "checkpoints" / "4"))[::every]
        for where, name, damage in todo:
            row = try_damage(run, cache_dir, hashes, where, damage)
            rows.append({"where": where, "damage": name, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", required=True, help="a new one, for copies of a run"
    )
    parser.add_argument("--every", type=int, default=1, help="tries every n-th damage")
    parser.add_argument("--json", help="file of the rows")
    options = parser.parse_args()
    logging.getLogger("segjax").setLevel(logging.CRITICAL)
    folder = Path(options.folder)
    folder.mkdir(parents=True)
    rows = sweep(folder, str(folder / "data"), options.every)
    for what in ("latest", "best", "resumed"):
        counts = collections.Counter(row[what].partition(": ")[0] for row in rows)
        print(f"{what:8}", "  ".join(f"{k} {n}" for k, n in sorted(counts.items())))
    faults = [row for row in rows if any("fault" in value for value in row.values())]
    for row in faults:
        print(json.dumps(row))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
