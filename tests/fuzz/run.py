"""Fuzzing: damaged files to every reader of bytes, with limits of time and memory.

    python tests/fuzz/run.py --inputs=20000 --seed=0     counts, and exit code 1 for faults
    python tests/fuzz/run.py --seed=0 --only=1234        one input, its files kept
    python tests/fuzz/run.py --checkout=OTHER            the segjax of another folder

An input ends well if it is accepted or refused in a sentence of a `UserError`. All
else is a fault: an exception of another kind, a crash, more than 10 s, more than 1 GB, a
sentence that cannot be read or names no file, a cut file taken as whole. The number of
an input and the seed decide all that chance decides.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import numpy as np
from mutators import damaged, pick
from seeds import Seed, all_seeds, train
from targets import FREQUENCIES, NO_FILE, TARGETS, WITH_JAX, Wrong, fingerprint

HERE = Path(__file__).resolve().parent
SECONDS, BYTES, LONGEST = 10.0, 2**30, 800
PATIENT = ("start", "trained", "resumed", "model", "command_line")
"""What compiles programs, or imports everything: it has twenty times as long."""

COMMAND_EVERY = 200
"""One input of so many goes through the command line."""


now = time.monotonic


class Outcome(NamedTuple):
    """How an input ended.

    Attributes:
      number: of the input.
      target: what read it.
      kind: "accepted", "sentence", or the kind of the fault.
      what: the sentence or the error, and where it came from.
      damage: what was done to which file.
    """

    number: int
    target: str
    kind: str
    what: str = ""
    damage: str = ""

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("accepted", "sentence")


class Input(NamedTuple):
    """A damaged file in its folder, and what reads it."""

    number: int
    target: str
    seed: Seed
    damage: str
    raw: bytes
    rng: np.random.Generator


def make_input(seeds: Sequence[Seed], number: int, seed: int) -> Input:
    """Makes the input of a number, always the same."""
    rng = np.random.default_rng([seed, number])
    if number % COMMAND_EVERY == COMMAND_EVERY - 1:
        target = "command_line"
        reader = pick(rng, ("image", "folder", "renamed", "trained"))
    else:
        frequencies = np.array([*FREQUENCIES.values()])
        target = [*FREQUENCIES][
            rng.choice(len(frequencies), p=frequencies / frequencies.sum())
        ].__name__
        reader = target
    chosen = pick(rng, [s for s in seeds if s.target == reader])
    victim = "name" if chosen.target == "renamed" else chosen.victim
    others = [s.files[s.victim] for s in seeds if s.kind == chosen.kind]
    what, raw = damaged(rng, chosen.kind, chosen.files[victim], pick(rng, others))
    return Input(number, target, chosen, f"{what} of {victim}", raw, rng)


def write(root: Path, files: dict[str, bytes | None]) -> None:
    for name, raw in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path) if raw is None else path.write_bytes(raw)


def execute(item: Input, root: Path) -> tuple[list[Outcome], list[Any]]:
    """Writes the files of an input and lets its target read them."""
    shutil.rmtree(root, ignore_errors=True)
    victim = "name" if item.seed.target == "renamed" else item.seed.victim
    write(root, item.seed.files | {victim: item.raw})
    names = {Path(name).name for name in item.seed.files} | {str(root), "config"}
    names = {""} if item.target in NO_FILE else names
    found, values = [], []
    for call in TARGETS[item.target](root / victim, root, item.rng):
        kind, what, value = judge(call, names)
        found.append(Outcome(item.number, item.target, kind, what, item.damage))
        values.append(value)
    return found, values


def judge(call: Any, names: set[str]) -> tuple[str, str, Any]:
    """Calls a reader, and says how that ended."""
    from segjax.errors import UserError

    before = _peak(reset=True)
    value = None
    try:
        value = call()
        kind, what = "accepted", ""
    except UserError as error:
        kind, what = _of_sentence(str(error), names), str(error)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                kind = "memory"
            cause = cause.__cause__ or cause.__context__
    except (Exception, SystemExit) as error:
        kinds = {Wrong: "wrong result", MemoryError: "memory"}
        kind = kinds.get(type(error), "traceback")
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/segjax/" in f.filename] or frames
        at = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
        what = f"{type(error).__name__} in {at}: {str(error)[:300]}"
    used = _peak() - before
    if used > BYTES:
        kind, what = "memory", f"{used >> 20} MiB; {what}"
    return kind, what, value


def _of_sentence(text: str, names: set[str]) -> str:
    from segjax.errors import escape_control

    readable = "\n" not in text and escape_control(text) == text
    readable = readable and len(text) <= LONGEST
    if not readable or not text.endswith((".", "?")):
        return "bad sentence"
    return "sentence" if any(name in text for name in names) else "names no file"


def _peak(reset: bool = False) -> int:
    """The most memory of this process so far, or since the last reset, bytes."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _work(pipe: Any, root: Path, seeds: Sequence[Seed], seed: int, jax: bool) -> None:
    """The life of a worker: numbers in, outcomes out."""
    log = os.open(root.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(2)
    if jax:  # what starts JAX and compiles is no fault of the first input
        _warm_up(root, seeds)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * BYTES,) * 2)
    whole: dict[tuple[str, str], Any] = {}
    pipe.send(None)
    for number in iter(pipe.recv, None):
        item = make_input(seeds, number, seed)
        found, values = execute(item, root)
        if item.target in CUT_IS_DAMAGE and item.damage.startswith(("cut", "loop")):
            found = _compare(item, root, found, values, whole)
        faults = [o for o in found if o.is_fault]
        good = [o for o in found if o.kind == "sentence"] or found
        none = [Outcome(number, item.target, "accepted")]
        pipe.send((faults or good or none)[:1])


def _compare(
    item: Input, root: Path, found: list[Outcome], values: list[Any], whole: dict
) -> list[Outcome]:
    """Looks whether a part of a file gave other values than the whole one."""
    key = (item.target, item.seed.victim)
    if key not in whole:
        intact = item._replace(raw=item.seed.files[item.seed.victim])
        whole[key] = [fingerprint(v) for v in execute(intact, root)[1]]
    checked = []
    for i, (outcome, value, before) in enumerate(
        zip(found, values, whole[key], strict=True)
    ):
        endless = item.damage.startswith("loop") and i == 0
        if outcome.kind == "accepted" and (endless or fingerprint(value) != before):
            what = f"call {i + 1} of {item.seed.victim}"
            outcome = outcome._replace(kind="taken as whole", what=what)
        checked.append(outcome)
    return checked


CUT_IS_DAMAGE = ("image", "weights", "tflite", "prepared")
"""Targets that read one binary file, of which a part is never whole."""


def _warm_up(root: Path, seeds: Sequence[Seed]) -> None:
    for target in WITH_JAX:
        chosen = next(s for s in seeds if s.target == target)
        raw = chosen.files[chosen.victim]
        rng = np.random.default_rng(0)
        (found, *_), _ = execute(Input(-1, target, chosen, "nothing", raw, rng), root)
        if found.is_fault:
            raise RuntimeError(f"the undamaged run is refused: {found}")


class Worker:
    """A forked process, and the input that it is busy with."""

    def __init__(self, root: Path, index: int, *arguments: Any):
        self.root, self.index, self.arguments = root / f"{index}", index, arguments
        self.start()

    def start(self) -> None:
        fork = multiprocessing.get_context("fork")
        self.pipe, other = fork.Pipe()
        work = (other, self.root, *self.arguments)
        self.process = fork.Process(target=_work, args=work, daemon=True)
        self.process.start()
        other.close()
        self.take(-1)

    def take(self, number: int) -> None:
        """Notes which input it is given, and when."""
        self.number, self.since, self.used = number, now(), self._processor_time()

    def hangs(self, seconds: float) -> bool:
        """Whether it took too long; on a busy machine, waiting to run does not count."""
        wall, used = now() - self.since, self._processor_time() - self.used
        blocked = used < seconds / 50 and self._status()[0] not in "RD"
        late = wall > seconds and (blocked or used > seconds or wall > 60 * seconds)
        return late and not self.pipe.poll()

    def _processor_time(self) -> float:
        """Of the process so far, in seconds; 0 where that is not known."""
        user, system = self._status()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _status(self) -> list[str]:
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:  # no Linux, or it has died
            return ["?"] + ["0"] * 12
        return status.rpartition(")")[2].split()

    def replace(self) -> str:
        """Ends the process and starts another; returns what the old one said last."""
        self.process.kill()
        self.process.join()
        log = self.root.with_suffix(".log").read_text(errors="replace")
        self.pipe.close()
        self.start()
        return log.strip()[-600:]


def outcomes(
    targets: Mapping[int, tuple[str, str]],
    seeds: Sequence[Seed],
    options: argparse.Namespace,
    root: Path,
) -> Iterator[Outcome]:
    """Lets workers read inputs, of which target and damage are known by their number."""
    for jax in (False, True):
        todo = [n for n in targets if (targets[n][0] in WITH_JAX) == jax][::-1]
        count = min(options.jobs, len(todo))
        workers = [Worker(root, i, seeds, options.seed, jax) for i in range(count)]
        while workers:
            connection.wait([w.pipe for w in workers], timeout=0.5)
            for worker in [*workers]:
                number = worker.number
                target, damage = targets.get(number, ("start", ""))
                patience = SECONDS * (20 if target in PATIENT else 1)
                fault = ""
                try:
                    if worker.pipe.poll():
                        yield from worker.pipe.recv() or ()
                        worker.take(todo.pop() if todo else -1)
                        worker.pipe.send(worker.number if worker.number >= 0 else None)
                        if worker.number < 0:
                            worker.process.join()
                            workers.remove(worker)
                    elif worker.hangs(patience):
                        fault = "hang"
                except (EOFError, OSError):
                    worker.process.join(5)
                    fault = f"crash ({worker.process.exitcode})"
                if fault:
                    message = worker.replace()
                    if number < 0:
                        raise RuntimeError(f"a worker did not start: {message}")
                    yield Outcome(number, target, fault, message, damage)


def report(
    found: list[Outcome], seeds: Sequence[Seed], options: Any, kept: Path
) -> int:
    """Prints counts, and an example of each kind of fault, whose files it keeps."""
    table = collections.defaultdict(collections.Counter)
    for outcome in found:
        table[outcome.target][outcome.kind] += 1
        table["all"][outcome.kind] += 1
    for target, counts in table.items():
        totals = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
        print(f"{target:16} {counts.total():6}: {totals}")
    alike = collections.defaultdict(list)
    for fault in (o for o in found if o.is_fault):
        alike[fault.target, fault.kind, fault.what.partition(": ")[0][:60]].append(
            fault
        )
    for (target, kind, _), faults in sorted(alike.items(), key=lambda x: -len(x[1])):
        first = faults[0]
        print(f"\n{len(faults)} x {target}: {kind}, as input {first.number}")
        print(f"  {first.damage}\n  {first.what[:700]!r}")
        item = make_input(seeds, first.number, options.seed)
        shutil.rmtree(kept / f"{first.number}", ignore_errors=True)
        victim = "name" if item.seed.target == "renamed" else item.seed.victim
        write(kept / f"{first.number}", item.seed.files | {victim: item.raw})
    if alike:
        print(f"\nFiles of the examples: {kept}")
    return 1 if alike else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one input")
    parser.add_argument(
        "--targets", default=",".join(TARGETS), help="some, with commas"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--checkout", type=Path, default=HERE.parent.parent)
    parser.add_argument("--kept", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    sys.path.insert(0, str(checkout))
    os.environ["PYTHONPATH"] = str(checkout)
    os.environ["FUZZ_CONFIG"] = f"{checkout}/configs/unet_em.py:smoke"
    began = now()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        root = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "cache")
        train(root / "whole", os.environ["FUZZ_CONFIG"])
        seeds = all_seeds(root / "whole")
        rows = (root / "whole/run/checkpoints/2/about/metadata").read_text()
        (root / "sha256").write_text(json.dumps(json.loads(rows)["parameters_sha256"]))
        _import_everything()
        numbers = range(options.inputs) if options.only is None else [options.only]
        wanted = options.targets.split(",")
        items = (make_input(seeds, n, options.seed) for n in numbers)
        chosen = {i.number: (i.target, i.damage) for i in items if i.target in wanted}
        print(
            f"{len(chosen)} inputs from {len(seeds)} seeds, {now() - began:.0f} s to start"
        )
        found = list(outcomes(chosen, seeds, options, root))
        print(f"{len(found)} inputs in {now() - began:.0f} s")
        return report(found, seeds, options, options.kept)


def _import_everything() -> None:
    """Makes this process warm, so that those that it forks are."""
    import importlib
    import pkgutil

    import segjax

    for module in pkgutil.walk_packages(segjax.__path__, "segjax."):
        importlib.import_module(module.name)
    logging.getLogger("segjax").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
