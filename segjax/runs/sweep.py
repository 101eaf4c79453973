"""A sweep: one run for each combination of values of some keys, one after the other.

The folder of a sweep holds the folder of each run and `sweep.json`, the manifest: the config
that all have in common, the keys and their values, and how each run ended. Each run is a
process of its own, so that one that fails or needs too much memory leaves the others alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.output.files import NO_LOCKS, locked, whole_file
from segjax.runs.initialization import check as check_initialization
from segjax.tasks.table import default_metric, make_task
from segjax.text_files import parse_json, read_bytes
from segjax.training.checkpoints.checkpoint_files import steps_on_disk
from segjax.training.early_stopping import early_stopping_of
from segjax.training.hooks import check_hooks
from segjax.training.run_files.workdir import LOG, check_workdir, make_workdir, writing
from segjax.training.run_files.writer import read_rows
from segjax.training.stop import StopSignal

log = logging.getLogger("segjax")

MANIFEST = "sweep.json"

_POLL = 0.2
"""Seconds between two looks at a run, or at a lock."""

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
FAILED, INTERRUPTED = "failed", "interrupted"
"""How far a run is; "running" stays where its process was killed."""


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
      name: of its folder, such as "seed=0,learning_rate=1e-3".
      values: the text of each key that differs between the runs.
      arguments: of the command line, without --workdir.
      config: the experiment.
    """

    name: str
    values: Mapping[str, str]
    arguments: Sequence[str]
    config: ml_collections.ConfigDict

    def command(self, sweep: Path) -> list[str]:
        """The command that trains it, or goes on with it."""
        program = [sys.executable, "-m", "segjax.main", "train"]
        return [*program, *self.arguments, f"--workdir={sweep / self.name}"]


class Sweep:
    """The runs of a sweep, in its folder.

    Attributes:
      folder: where the runs and the manifest lie.
      runs: all of them.
    """

    def __init__(self, folder: Path, runs: Sequence[SweepRun]):
        """Checks everything that can be checked before a run begins; writes nothing.

        Args:
          folder: of the sweep.
          runs: all of them.

        Raises:
          UserError: if an experiment cannot be built, or the folder holds another sweep.
        """
        self.folder, self.runs = folder, runs
        for run in runs:
            try:
                task = make_task(run.config)
                early_stopping_of(run.config, task.evaluation.best_metric)
                check_initialization(run.config)
                check_hooks(run.config)
            except UserError as error:
                raise UserError(f"{run.name}: {error}") from error
        with writing(folder):
            check_workdir(folder)
        if (folder / "config.json").exists():
            raise UserError(
                f"--workdir={folder} is the folder of a run: give another for the sweep."
            )
        before = read_manifest(folder)
        if before is not None:
            self._check_same_sweep(before)

    def _check_same_sweep(self, before: Mapping[str, Any]) -> None:
        """Checks that the runs that are there belong to this sweep; it may have others, too."""
        keys = list(self.runs[0].values)
        if before["over"] != keys:
            raise UserError(
                f"--workdir={self.folder} holds a sweep over {', '.join(before['over'])}, not "
                f"over {', '.join(keys)}: give another --workdir."
            )
        old = config_lib.from_dict(before["config"])
        changes = {
            key: change
            for key, change in config_lib.differences(old, self._common()).items()
            if not config_lib.is_changeable(key)
        }
        if changes:
            what = "; ".join(f"{key} {change}" for key, change in changes.items())
            raise UserError(
                f"--workdir={self.folder} holds a sweep of another config: {what}. Use the "
                "same values to go on, or another --workdir."
            )

    def _common(self) -> ml_collections.ConfigDict:
        """What the configs of all runs have in common."""
        config = config_lib.from_json(config_lib.to_json(self.runs[0].config))
        with config.unlocked():
            for key in self.runs[0].values:
                *groups, last = key.split(".")
                node = config
                for group in groups:
                    node = node[group]
                if last in node:
                    del node[last]
        return config

    def write(self) -> None:
        """Makes the folder and writes the manifest; what it says of earlier runs stays.

        Raises:
          UserError: if they cannot be written.
        """
        make_workdir(self.folder)
        with self._manifest() as manifest:
            known = {row["name"]: row for row in manifest.get("runs", ())}
            common = json.loads(config_lib.to_json(self._common()))
            manifest |= {"over": list(self.runs[0].values), "config": common}
            for run in self.runs:
                row = {"name": run.name, "values": dict(run.values), "status": WAITING}
                known[run.name] = row | known.get(run.name, {})
            manifest["runs"] = list(known.values())

    @contextlib.contextmanager
    def _manifest(self) -> Iterator[dict[str, Any]]:
        """The manifest, to be changed; no other process changes it meanwhile."""
        with writing(self.folder), locked(self.folder / ".sweep_lock", wait=True):
            manifest = read_manifest(self.folder) or {}
            yield manifest
            with whole_file(self.folder / MANIFEST) as file:
                file.write((json.dumps(manifest, indent=2) + "\n").encode())

    def _note(self, run: SweepRun, **facts: Any) -> None:
        with self._manifest() as manifest:
            next(x for x in manifest["runs"] if x["name"] == run.name).update(facts)

    def _note_finished(self, run: SweepRun) -> None:
        self._note(run, status=FINISHED, num_steps=run.config.num_steps)

    def unfinished(self) -> list[SweepRun]:
        """The runs that have steps to do."""
        manifest = read_manifest(self.folder) or {"runs": ()}
        finished = {
            (row["name"], row.get("num_steps"))
            for row in manifest["runs"]
            if row.get("status") == FINISHED
        }
        return [
            run
            for run in self.runs
            if (run.name, run.config.num_steps) not in finished
            and not is_finished(self.folder / run.name, run.config)
        ]

    def train(self) -> int | None:
        """Trains what is unfinished, one run after the other.

        Runs that other processes train are left to them, and come last where those end too
        early. A run that fails is logged.

        Returns:
          The signal that ended it early, if one did.
        """
        self.write()
        waiting = self.unfinished()
        for run in self.runs:
            if run not in waiting:
                self._note_finished(run)
        done, count = len(self.runs) - len(waiting), len(self.runs)
        if done:
            log.info("%d of %d runs are finished already.", done, count)
        with StopSignal() as stop, stop.interrupts():
            while waiting and not stop.requested:
                run = next((x for x in waiting if not self._is_taken(x)), waiting[0])
                waiting.remove(run)
                done += 1
                log.info("Run %d of %d: %s", done, count, run.name)
                with held(self._claim(run), stop):
                    self._wait_for_orphan(run, stop)
                    if stop.requested:
                        break
                    if run in self.unfinished():
                        self._train_one(run, stop)
                    else:
                        self._note_finished(run)
            return stop.received

    def _claim(self, run: SweepRun) -> Path:
        """What is locked from before a run begins until it has ended."""
        return self.folder / f".{run.name}.lock"

    def _wait_for_orphan(self, run: SweepRun, stop: StopSignal) -> None:
        """Waits for the process of a run whose sweep was killed; it goes on to its end."""
        path = self.folder / run.name / ".lock"
        if path.exists():
            with held(path, stop):
                pass

    def _is_taken(self, run: SweepRun) -> bool:
        return is_locked(self._claim(run)) or is_locked(
            self.folder / run.name / ".lock"
        )

    def _train_one(self, run: SweepRun, stop: StopSignal) -> None:
        began = time.monotonic()
        self._note(run, status=RUNNING, seconds=None)
        process = subprocess.Popen(
            # Of a job of Slurm each process trains runs of its own.
            [*run.command(self.folder), "--distributed=off"],
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process, which hands it on once
        )
        code, printed = _wait(process, stop)
        result = _last_json(printed)
        status = FINISHED if code == 0 else FAILED
        if stop.requested or result.get("interrupted"):
            status = INTERRUPTED
        seconds = round(time.monotonic() - began, 1)
        ended = {"exit_code": code, "seconds": seconds, "result": result}
        steps = run.config.num_steps
        self._note(run, status=status, num_steps=steps, **ended)
        if status == FAILED:
            log.warning(
                "%s failed with exit code %d; the others go on.", run.name, code
            )

    def rows(self) -> list[dict[str, Any]]:
        """What the manifest says of these runs."""
        manifest = read_manifest(self.folder) or {"runs": ()}
        names = {run.name for run in self.runs}
        return [row for row in manifest["runs"] if row["name"] in names]


def _wait(process: subprocess.Popen[bytes], stop: StopSignal) -> tuple[int, bytes]:
    """Waits for a run; a signal that this process gets is handed on."""
    handed_on = False
    while True:
        try:
            printed, _ = process.communicate(timeout=_POLL)
            return process.returncode, printed
        except subprocess.TimeoutExpired:
            if stop.requested and not handed_on:
                handed_on = True
                process.send_signal(signal.SIGTERM)
        except KeyboardInterrupt:  # the second one: at once
            process.kill()
            process.wait()
            raise


def _last_json(printed: bytes) -> dict[str, Any]:
    """The result that a run printed last; empty where there is none."""
    lines = printed.splitlines()
    with contextlib.suppress(UserError):
        found = parse_json(lines[-1], "the result") if lines else None
        return found if isinstance(found, dict) else {}
    return {}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Reads the manifest of a sweep.

    Args:
      folder: of the sweep.

    Returns:
      Its content; None where there is none.

    Raises:
      UserError: if it is not one.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    found = parse_json(read_bytes(path), path)
    rows = found.get("runs") if isinstance(found, dict) else None
    are_rows = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows
    )
    if not are_rows or not {"over", "config"} <= found.keys():
        raise UserError(
            f"{path} is not the manifest of a sweep. Move it, or give another --workdir."
        )
    return found


def is_finished(workdir: Path, config: ml_collections.ConfigDict) -> bool:
    """Whether a run has its last step, or was stopped early; measured and saved."""
    steps = steps_on_disk(workdir)
    rows = read_rows(workdir / LOG) if steps else []
    measured = [row for row in rows if row["split"] != "train"]
    if steps and steps[0] >= config.num_steps:
        return any(row["step"] == config.num_steps for row in measured)
    rule = early_stopping_of(config, default_metric(config))
    if rule is None:
        return False
    found = [
        (x["step"], x) for x in measured if rule.metric in x and x["step"] <= steps[0]
    ]
    return bool(found) and found[-1][0] == steps[0] and rule.reason(found) is not None


@contextlib.contextmanager
def held(path: Path, stop: StopSignal) -> Iterator[None]:
    """Waits for a lock and holds it; goes without where a signal asks to stop meanwhile.

    The kernel's own wait would go on after a signal that is noted (PEP 475).

    Args:
      path: the file to lock.
      stop: the signals.

    Yields:
      Nothing.
    """
    with contextlib.ExitStack() as stack:
        while not stop.requested:
            try:
                stack.enter_context(locked(path))
                break
            except BlockingIOError:
                time.sleep(_POLL)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                break
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with locked(path) if path.exists() else contextlib.nullcontext():
            return False
    except BlockingIOError:
        return True
