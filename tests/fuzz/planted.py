"""Readers with faults of every kind, to see that the runner finds each and goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import run
import seeds

from segjax.errors import UserError


def accepted(path, root, rng):
    yield path.read_bytes


def sentence(path, root, rng):
    yield lambda: _raise(UserError(f"{path} is damaged. Copy it again."))


def traceback(path, root, rng):
    yield lambda: {}["missing"]


def crash(path, root, rng):
    yield lambda: os.kill(os.getpid(), signal.SIGSEGV)


def hang(path, root, rng):
    yield lambda: time.sleep(60)


def busy(path, root, rng):
    yield lambda: all(range(1, 10**12))


def memory(path, root, rng):
    yield lambda: len(bytearray(b"x") * (run.BYTES * 5 // 4))


def too_much_memory(path, root, rng):
    yield lambda: len(bytearray(2**40))


def bad_sentence(path, root, rng):
    yield lambda: _raise(UserError(f"{path} is damaged:\nline 2"))


def names_no_file(path, root, rng):
    yield lambda: _raise(UserError("A file is damaged. Copy it again."))


def taken_as_whole(path, root, rng):
    yield lambda: path.read_bytes()[:4]


def _raise(error: Exception) -> None:
    raise error


KINDS = {
    accepted: "accepted", sentence: "sentence", traceback: "traceback",
    crash: "crash (-11)", hang: "hang", busy: "hang", memory: "memory",
    too_much_memory: "memory", bad_sentence: "bad sentence",
    names_no_file: "names no file", taken_as_whole: "taken as whole",
}  # fmt: skip


def main() -> None:
    """Prints how three inputs of each reader ended, and whether they come again."""
    run.TARGETS.update({f.__name__: f for f in KINDS})
    run.FREQUENCIES.clear()
    run.FREQUENCIES.update(dict.fromkeys(KINDS, 1))
    run.CUT_IS_DAMAGE = ("taken_as_whole",)
    run.SECONDS, run.COMMAND_EVERY = 3.0, 10**9
    run.BYTES = 2**28  # filled well within the seconds on a busy machine
    some = [
        seeds.Seed(f.__name__, "a.bin", "bytes", {"a.bin": b"abc\0" * 9}) for f in KINDS
    ]
    wanted: dict[str, list[int]] = {f.__name__: [] for f in KINDS}
    for number in range(1, 10_000):
        item = run.make_input(some, number, 0)
        cut = item.damage == "cut of a.bin" and len(item.raw) < 4
        if (cut or item.target != "taken_as_whole") and item.target in wanted:
            wanted[item.target] = [*wanted[item.target], number][:3]
    chosen = {n: (target, "") for target, ns in wanted.items() for n in ns}
    with tempfile.TemporaryDirectory() as folder:
        options = Namespace(seed=0, jobs=1)
        found = list(run.outcomes(chosen, some, options, Path(folder)))
    again = [
        run.make_input(some, n, 0).raw == run.make_input(some, n, 0).raw for n in chosen
    ]
    expected = {f.__name__: kind for f, kind in KINDS.items()}
    ended = sorted((o.target, o.kind) for o in found)
    print(json.dumps([ended, sorted(expected.items()), all(again)]))


if __name__ == "__main__":
    sys.exit(main())
