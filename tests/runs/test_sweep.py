"""sweep: values and folders, what is refused, and runs that end in every way."""

import json
import os
import shlex
import signal
import sys
import threading
import time

import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.output.files import locked
from segjax.runs import sweep as sweep_lib
from segjax.runs.sweep import Sweep, SweepRun, read_manifest
from segjax.runs.sweep_values import combinations, folder_names, parse_over

FILE = "configs/unet_em.py:smoke"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed", "is not KEY=VALUE;VALUE or KEY=FIRST..LAST"),
        ("seed=", "is not KEY=VALUE;VALUE"),
        ("seed=1;;2", "is not KEY=VALUE;VALUE"),
        ("seed=4..0", "has 0 values"),
        ("seed=0..99999", "has 100000 values"),
        ("seed=1;1", "has a value twice"),
    ],
)
def test_values_that_make_no_sense_are_refused(text, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_over(text)


def test_folders_have_the_names_of_their_values():
    chosen = combinations(["seed=0..1", "schedule.learning_rate=1e-3;3e-3"])
    names = folder_names(chosen)
    assert names[0] == "seed=0,learning_rate=1e-3"
    assert len({*names}) == 4
    odd = [{"data.root": "a/b"}, {"data.root": "a%2Fb"}]
    assert folder_names(odd) == ["root=a%2Fb", "root=a%252Fb"]
    with pytest.raises(UserError, match="a name of 306 characters"):
        folder_names([{"x.group": "y" * 300}])
    with pytest.raises(UserError, match="Two --over have the same key"):
        combinations(["seed=0", "seed=1"])
    with pytest.raises(UserError, match="would have 20000 runs"):
        combinations(["seed=0..9999", "batch_size=1;2"])


RUN = """
import json, os, signal, sys, time
from pathlib import Path
workdir, seed = Path(sys.argv[1]), sys.argv[2]
workdir.mkdir(parents=True, exist_ok=True)
with (workdir / "calls").open("a") as file: file.write("x")
if seed == "1" and not (workdir.parent / "healed").exists(): sys.exit(3)
if (workdir.parent / "slow").exists():
    signal.signal(signal.SIGTERM, lambda *_: (print('{"interrupted": true}'), sys.exit(0)))
    (workdir / "began").touch()
    time.sleep(60)
print(json.dumps({"step": 2, "interrupted": False, "mean_iou": 0.5}))
"""
"""Stands for a run: fails with seed 1 until there is a file "healed"."""


@pytest.fixture
def make_sweep(tmp_path, monkeypatch, smoke):
    """Makes a sweep over seeds whose runs are processes that train nothing."""

    def command(self, folder):
        workdir = str(folder / self.name)
        return [sys.executable, "-c", RUN, workdir, self.values["seed"]]

    monkeypatch.setattr(SweepRun, "command", command)

    def make(count=3, **changes):
        runs = []
        for seed in range(count):
            config = config_lib.from_json(config_lib.to_json(smoke))
            config.update({"seed": seed} | changes)
            runs.append(SweepRun(f"seed={seed}", {"seed": str(seed)}, [], config))
        return Sweep(tmp_path / "sweep", runs)

    return make


def calls(sweep):
    paths = [sweep.folder / run.name / "calls" for run in sweep.runs]
    return [len(path.read_text()) if path.exists() else 0 for path in paths]


def test_a_failed_run_is_named_and_the_others_go_on(make_sweep, caplog):
    caplog.set_level("INFO", "segjax")
    sweep = make_sweep()
    assert sweep.train() is None
    assert [row["status"] for row in sweep.rows()] == ["finished", "failed", "finished"]
    assert sweep.rows()[1]["exit_code"] == 3
    assert "seed=1 failed with exit code 3; the others go on" in caplog.text
    assert sweep.rows()[0]["result"]["mean_iou"] == 0.5

    (sweep.folder / "healed").touch()
    again = make_sweep(4)  # other values may be added
    again.train()
    assert {row["status"] for row in again.rows()} == {"finished"}
    assert calls(again) == [1, 2, 1, 1]
    make_sweep(4).train()
    assert calls(again) == [1, 2, 1, 1]
    make_sweep(4, num_steps=3).train()  # all may become longer
    assert calls(again) == [2, 3, 2, 2]


def test_a_signal_is_handed_to_the_run_and_the_same_command_goes_on(make_sweep):
    sweep = make_sweep()
    sweep.folder.mkdir()
    for name in ("slow", "healed"):
        (sweep.folder / name).touch()

    def terminate():
        while not (sweep.folder / "seed=0" / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    assert sweep.train() == signal.SIGTERM
    assert [r["status"] for r in sweep.rows()] == ["interrupted", "waiting", "waiting"]
    (sweep.folder / "slow").unlink()
    assert make_sweep().train() is None
    assert calls(sweep) == [2, 1, 1]


@pytest.mark.parametrize("taken", ["seed=0/.lock", ".seed=0.lock"])
def test_what_another_process_trains_comes_last(make_sweep, caplog, taken):
    caplog.set_level("INFO", "segjax")
    sweep = make_sweep()
    first, last = sweep.folder / "seed=0", sweep.folder / "seed=2" / "calls"
    first.mkdir(parents=True)
    (sweep.folder / "healed").touch()
    held = threading.Event()

    def hold():
        with locked(sweep.folder / taken):
            held.set()
            while not last.exists():
                time.sleep(0.01)

    threading.Thread(target=hold).start()
    held.wait()
    sweep.train()
    assert not sweep_lib.is_locked(sweep.folder / taken)
    assert calls(sweep) == [1, 1, 1]
    begun = [x.getMessage() for x in caplog.records if "Run " in x.getMessage()]
    assert [text.rpartition(" ")[2] for text in begun] == ["seed=1", "seed=2", "seed=0"]


@pytest.mark.parametrize("taken", ["seed=0/.lock", ".seed=0.lock"])
def test_a_signal_ends_the_wait_for_another_process(make_sweep, taken):
    sweep = make_sweep(1)
    (sweep.folder / "seed=0").mkdir(parents=True)

    def terminate():
        while sweep.rows()[:1] == []:
            time.sleep(0.01)
        time.sleep(0.5)  # it waits
        os.kill(os.getpid(), signal.SIGTERM)

    with locked(sweep.folder / taken):
        threading.Thread(target=terminate).start()
        assert sweep.train() == signal.SIGTERM
    assert [row["status"] for row in sweep.rows()] == ["waiting"]
    assert calls(sweep) == [0]


def test_finished_runs_of_an_array_job_are_known_by_their_files(make_sweep):
    sweep = make_sweep()
    done = sweep.folder / "seed=0"
    (done / "checkpoints" / "2").mkdir(parents=True)
    row = {"step": 2, "split": "validation", "mean_iou": 0.5}
    (done / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert [run.name for run in sweep.unfinished()] == ["seed=1", "seed=2"]


def test_runs_that_were_stopped_early_are_known_by_their_files(make_sweep):
    changes = {"num_steps": 8, "early_stopping": {"patience": 1}}
    sweep = make_sweep(3, **changes)
    for run, last, saved in zip(sweep.runs, (0.3, 0.5, 0.3), (4, 4, 2), strict=True):
        folder = sweep.folder / run.name
        (folder / "checkpoints" / str(saved)).mkdir(parents=True)
        rows = [
            {"step": step, "split": "validation", "mean_iou": value}
            for step, value in ((2, 0.4), (4, last))
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert [run.name for run in sweep.unfinished()] == ["seed=1", "seed=2"]


def test_a_run_that_ended_while_it_was_waited_for_is_finished(make_sweep, monkeypatch):
    sweep = make_sweep(1)

    def end(_, run, stop):
        (sweep.folder / run.name / "checkpoints" / "2").mkdir(parents=True)
        row = {"step": 2, "split": "validation", "mean_iou": 0.5}
        (sweep.folder / run.name / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    monkeypatch.setattr(Sweep, "_wait_for_orphan", end)
    sweep.train()
    assert [row["status"] for row in sweep.rows()] == ["finished"]
    assert calls(sweep) == [0]


def test_a_folder_of_another_sweep_is_refused(make_sweep, smoke):
    make_sweep().write()
    with pytest.raises(UserError, match="another config: batch_size was 4, now 8"):
        make_sweep(batch_size=8)
    make_sweep(num_steps=9).write()  # a run may be made longer
    smoke.seed = 0
    runs = [SweepRun("b=1", {"batch_size": "1"}, [], smoke)]
    folder = make_sweep().folder
    with pytest.raises(UserError, match="a sweep over seed, not over batch_size"):
        Sweep(folder, runs)
    (folder / "sweep.json").write_text("[]")
    with pytest.raises(UserError, match="is not the manifest of a sweep"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ("sed=0..3", 'config has no key "sed". Did you mean "seed"?'),
        ("model.depht=3", 'config.model has no key "depht"'),
        ("batch_size=two", "batch_size=two does not fit"),
        ("batch_size=0", "batch_size=0: config.batch_size must be an integer from 1"),
        ('hooks=("wandbb",)', "config.hooks[0].name is 'wandbb'"),
        ('early_stopping={"patience": 0}', "patience is 0"),
        (
            'early_stopping={"patience": 2, "metric": "mean_iuo"}',
            "config.early_stopping.metric is 'mean_iuo', which is not measured. Did you",
        ),
    ],
)
def test_what_is_wrong_is_found_before_anything_runs(main, tmp_path, over, sentence):
    asked = (
        ("--over=seed=0..1", f"--over={over}")
        if "sed" not in over
        else (f"--over={over}",)
    )
    folder = tmp_path / "sweep"
    ended = main("sweep", f"--config={FILE}", *asked, f"--workdir={folder}")
    assert ended.code == 1
    assert sentence in ended.sentence
    assert not folder.exists()


def test_commands_are_printed_for_a_cluster(main, tmp_path):
    folder = tmp_path / "sweep"
    asked = (f"--config={FILE}", "--over=seed=0;7", f"--workdir={folder}")
    changes = ("--config.batch_size", "8", "--config.evaluation.flip")
    ended = main("sweep", *asked, *changes, "--data_root=my images", "--print=commands")
    assert ended.code == 0, ended.stderr
    first, last = ended.stdout.splitlines()
    words = shlex.split(last)
    assert words[1:4] == ["-m", "segjax.main", "train"]
    assert words[4:] == [
        f"--config={FILE}",
        *("--config.batch_size=8", "--config.evaluation.flip", "--data_root=my images"),
        *("--config.seed=7", f"--workdir={folder / 'seed=7'}"),
    ]
    ended = main("sweep", *asked, *changes, "--data_root=my images", "--print=slurm")
    assert "#SBATCH --array=0-1" in ended.stdout
    assert f"  0) exec {first} ;;" in ended.stdout
    manifest = read_manifest(folder)
    assert [row["values"] for row in manifest["runs"]] == [{"seed": "0"}, {"seed": "7"}]


@pytest.mark.slow
def test_a_sweep_that_was_killed_ends_as_one_that_was_not(
    start_segjax, run_segjax, tmp_path, cache_dir, patience
):
    asked = (
        "sweep",
        f"--config={FILE}",
        "--over=seed=0..1",
        f"--cache_dir={cache_dir}",
    )
    whole = run_segjax(*asked, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = start_segjax(*asked, f"--workdir={killed}")
    until = time.monotonic() + patience
    while not (killed / "seed=0" / "checkpoints" / "1").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()
    again = run_segjax(*asked, f"--workdir={killed}")
    assert again.returncode == 0, again.stderr
    hashes = [
        [
            row["result"]["parameters_sha256"]
            for row in read_manifest(folder)["runs"][1:]
        ]
        for folder in (tmp_path / "whole", killed)
    ]
    assert hashes[0] == hashes[1]
    assert json.loads(again.stdout.splitlines()[-1]) == {"runs": 2, "finished": 2}
