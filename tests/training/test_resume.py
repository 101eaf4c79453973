"""A run that was stopped, in whatever way, ends as the run that never was."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs import train as runs_train
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop, sharding
from segjax.training.checkpoints import checkpoint, checkpoint_files
from segjax.training.hooks import Hook
from segjax.training.progress import Progress
from segjax.training.run_files import workdir as workdir_lib
from segjax.training.run_files.writer import read_rows
from segjax.training.throughput import TIMINGS

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
COMPILE = loop.compile_step


class Stopped(Exception):
    """What ends a run in the middle."""


def experiment():
    """Everything that is random: dropout, elastic deformation, statistics of batches."""
    config = config_lib.load(str(ROOT / "configs" / "unet_em.py:smoke"))
    config.num_steps = STEPS
    config.checkpoint_every, config.eval_every = 2, 3
    config.model.dropout_rate = 0.3
    config.evaluation.cell_class = None
    return config


@pytest.fixture
def config():
    return experiment()


@pytest.fixture(scope="module")
def compiled():
    return {}


@pytest.fixture(autouse=True)
def fast(monkeypatch, compiled):
    """One compilation for all runs, and no pictures."""
    make_step = loop.compile_step

    def once(task, *others):
        key = (task.config.batch_size, jax.device_count())
        if key not in compiled:
            compiled[key] = make_step(task, *others)
        return compiled[key]

    monkeypatch.setattr(loop, "compile_step", once)
    monkeypatch.setattr(loop, "plot_run", plot_nothing)


def plot_nothing(workdir, *_):
    """Plots nothing, but leaves the file behind that says that it is done."""
    curves = workdir / "pictures" / "curves.png"
    curves.parent.mkdir(exist_ok=True)
    curves.write_bytes(b"")
    return [curves]


@pytest.fixture(scope="module")
def straight(compiled, cache_dir, tmp_path_factory):
    """Hash and log of the run that never stopped; filled by the first who asks."""
    known = {}

    def ask(config):
        if not known:
            workdir = tmp_path_factory.mktemp("straight")
            result = train(config, workdir, cache_dir)
            known["end"] = result.parameters_sha256, rows_of(workdir)
        return known["end"]

    return ask


def rows_of(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def stop_at(monkeypatch, step, action):
    """Does `action` when the loop has done so many steps."""
    update = Progress.update

    def spy(self, done):
        update(self, done)
        if done == step:
            action()

    monkeypatch.setattr(Progress, "update", spy)
    return lambda: monkeypatch.setattr(Progress, "update", update)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def fail():
    raise Stopped


@pytest.mark.quick(1)
@pytest.mark.parametrize("step", [1, 2, 4])
def test_sigterm_saves_the_step_and_the_rest_is_bit_for_bit(
    step, config, cache_dir, tmp_path, monkeypatch, straight
):
    undo = stop_at(monkeypatch, step, terminate)
    result = train(config, tmp_path, cache_dir)
    assert result.interrupted
    assert result.step == step + 1
    with checkpoint.Checkpoints(tmp_path, read_only=True) as kept:
        assert kept.steps()[0] == step + 1
    undo()
    resumed = train(config, tmp_path, cache_dir)
    assert not resumed.interrupted
    assert (resumed.parameters_sha256, rows_of(tmp_path)) == straight(config)


@pytest.mark.quick(1)
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_failure_costs_what_came_since_the_last_save(
    step, config, cache_dir, tmp_path, monkeypatch, straight
):
    undo = stop_at(monkeypatch, step, fail)
    with pytest.raises(Stopped):
        train(config, tmp_path, cache_dir)
    undo()
    starts = []
    put = Progress.__init__

    def spy(self, total, start=0, stream=None):
        starts.append(start)
        put(self, total, start, stream)

    monkeypatch.setattr(Progress, "__init__", spy)
    resumed = train(config, tmp_path, cache_dir)
    saved = [s for s in (0, 2, 3, 4) if s <= step]
    assert starts == [saved[-1]]
    assert (resumed.parameters_sha256, rows_of(tmp_path)) == straight(config)


def test_the_handlers_of_signals_are_put_back(config, cache_dir, tmp_path, monkeypatch):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    stop_at(monkeypatch, 1, fail)
    with pytest.raises(Stopped):
        train(config, tmp_path, cache_dir)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_stops_at_once(config, cache_dir, tmp_path, monkeypatch):
    def twice():
        terminate()
        terminate()

    stop_at(monkeypatch, 1, twice)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, cache_dir)


@pytest.fixture(scope="module")
def stopped():
    """The folder of `stopped_at_four`, filled by the first who asks."""
    return {}


@pytest.fixture
def stopped_at_four(stopped, cache_dir, tmp_path, tmp_path_factory, monkeypatch):
    """A run that stopped at step 4, with checkpoints of steps 2 (or 3) and 4."""
    if not stopped:
        made = tmp_path_factory.mktemp("stopped") / "run"
        undo = stop_at(monkeypatch, 3, terminate)
        assert train(experiment(), made, cache_dir).step == 4
        undo()
        stopped["at four"] = made
    return shutil.copytree(stopped["at four"], tmp_path / "run")


def test_a_changed_config_is_refused_and_the_difference_is_reported(
    config, cache_dir, stopped_at_four
):
    config.model.features = (4, 16)
    config.optimizer.weight_decay = 0.5
    before = (stopped_at_four / "config.json").read_bytes()
    with pytest.raises(UserError) as caught:
        train(config, stopped_at_four, cache_dir)
    sentence = str(caught.value)
    assert "model.features was (4, 8), now (4, 16)" in sentence
    assert "optimizer.weight_decay was 0.0001, now 0.5" in sentence
    assert (stopped_at_four / "config.json").read_bytes() == before


def test_intervals_may_change_and_that_is_reported(
    config, cache_dir, stopped_at_four, caplog, straight
):
    end, _ = straight(config)
    config.checkpoint_every = 5
    with caplog.at_level("WARNING", "segjax"):
        resumed = train(config, stopped_at_four, cache_dir)
    assert "checkpoint_every was 2, now 5" in caplog.text
    assert resumed.parameters_sha256 == end
    stored = json.loads((stopped_at_four / "config.json").read_text())
    assert stored["checkpoint_every"] == 5


def test_a_finished_run_is_left_alone_and_reports_its_metrics_again(
    config, cache_dir, tmp_path
):
    first = train(config, tmp_path, cache_dir)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    before.pop(tmp_path / ".lock")
    again = train(config, tmp_path, cache_dir)
    assert (again.step, again.parameters_sha256) == (STEPS, first.parameters_sha256)
    assert again.metrics.keys() == first.metrics.keys()
    assert again.metrics["mean_iou"] == first.metrics["mean_iou"]
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after.get(p) for p in before} == before


@pytest.mark.quick(1)
@pytest.mark.parametrize("missing", ["pictures", "row", "both"])
def test_a_run_killed_before_its_pictures_is_completed(
    missing, config, cache_dir, tmp_path
):
    first = train(config, tmp_path, cache_dir)
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    if missing != "row":
        (tmp_path / "pictures" / "curves.png").unlink()
    if missing != "pictures":
        log.write_text("".join(lines[:-1]))
    again = train(config, tmp_path, cache_dir)
    assert (again.step, again.parameters_sha256) == (STEPS, first.parameters_sha256)
    assert again.metrics["mean_iou"] == pytest.approx(first.metrics["mean_iou"])
    assert log.read_text().splitlines(keepends=True) == lines
    assert (tmp_path / "pictures" / "curves.png").exists()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("module", "moment"),
    [
        (runs_train, "make_task"),
        (loop, "_initial_or_restored"),
        (loop, "compile_step"),
        (loop, "time_step"),
    ],
)
def test_a_signal_before_the_first_step_ends_the_run_in_peace(
    module, moment, config, cache_dir, stopped_at_four, monkeypatch, straight
):
    work = getattr(module, moment)

    def interrupted(*arguments):
        terminate()
        return work(*arguments)

    monkeypatch.setattr(module, moment, interrupted)
    result = train(config, stopped_at_four, cache_dir)
    assert (result.step, result.interrupted) == (4, True)
    monkeypatch.setattr(module, moment, work)
    resumed = train(config, stopped_at_four, cache_dir)
    assert (resumed.parameters_sha256, rows_of(stopped_at_four)) == straight(config)


def test_a_signal_while_evaluating_stops_after_it(
    config, cache_dir, tmp_path, monkeypatch, straight
):
    evaluate = SemanticTask.evaluate

    def interrupted(*arguments, **more):
        terminate()
        return evaluate(*arguments, **more)

    monkeypatch.setattr(SemanticTask, "evaluate", interrupted)
    result = train(config, tmp_path, cache_dir)
    assert (result.step, result.interrupted) == (3, True)
    monkeypatch.setattr(SemanticTask, "evaluate", evaluate)
    assert train(config, tmp_path, cache_dir).parameters_sha256 == straight(config)[0]


def test_a_damaged_config_comes_back_from_the_checkpoint(
    config, cache_dir, stopped_at_four, caplog, straight
):
    path = stopped_at_four / "config.json"
    before = path.read_bytes()
    truncate(path)
    with caplog.at_level("WARNING", "segjax"):
        resumed = train(config, stopped_at_four, cache_dir)
    assert "config.json is not JSON" in caplog.text
    assert "config of the checkpoint of step 4 is taken" in caplog.text
    assert path.read_bytes() == before
    assert resumed.parameters_sha256 == straight(config)[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r[:-1], "train had 2 images, now 1"),
        (
            lambda r: [r[0], r[1] | {"label": 1 - r[1]["label"]}],
            "train has other images",
        ),
        (lambda r: [r[0], r[1] | {"name": "x"}], "train has other images"),
    ],
)
def test_changed_data_are_refused(
    change, sentence, config, cache_dir, stopped_at_four, monkeypatch
):
    open_dataset = SemanticTask.open_dataset

    def changed(*arguments):
        dataset = open_dataset(*arguments)
        records = [dict(r) for r in dataset.splits["train"]]
        splits = {**dataset.splits, "train": change(records)}
        return dataclasses.replace(dataset, splits=splits)

    monkeypatch.setattr(SemanticTask, "open_dataset", changed)
    with pytest.raises(UserError, match=f"data have changed .*{sentence}"):
        train(config, stopped_at_four, cache_dir)


@pytest.mark.slow
def test_a_fresh_compilation_gives_the_same_bits(
    config, cache_dir, stopped_at_four, monkeypatch, straight
):
    """As after an update of the machine: no compiled program is there to be reused."""
    end = straight(config)
    monkeypatch.setattr(loop, "compile_step", COMPILE)
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    try:
        resumed = train(config, stopped_at_four, cache_dir)
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    assert (resumed.parameters_sha256, rows_of(stopped_at_four)) == end


def test_two_runs_on_one_workdir_are_refused(config, cache_dir, tmp_path):
    with (
        workdir_lib.lock(tmp_path),
        pytest.raises(UserError, match="Another process is working in --workdir="),
    ):
        train(config, tmp_path, cache_dir)
    assert not (tmp_path / "config.json").exists()


def test_a_damaged_newest_checkpoint_is_passed_over(
    config, cache_dir, stopped_at_four, caplog, straight
):
    # All of them: which one holds the values, and which is left over from writing them,
    # is Orbax's own affair. `test_no_damage_of_any_file` damages each alone.
    for path in (stopped_at_four / "checkpoints" / "4" / "state").rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)
    with caplog.at_level("INFO", "segjax"):
        resumed = train(config, stopped_at_four, cache_dir)
    assert "checkpoint of step 4" in caplog.text
    assert "is damaged" in caplog.text
    assert "Falling back to the one before" in caplog.text
    assert "Resuming at step 3" in caplog.text
    assert (stopped_at_four / "damaged-4-1" / "state").is_dir()
    assert (resumed.parameters_sha256, rows_of(stopped_at_four)) == straight(config)


def test_where_all_checkpoints_are_damaged_nothing_is_overwritten(
    config, cache_dir, stopped_at_four
):
    for path in (stopped_at_four / "checkpoints").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="those of the steps 4, 3 are damaged"):
        train(config, stopped_at_four, cache_dir)
    kept = {path.name for path in (stopped_at_four / "checkpoints").iterdir()}
    assert kept >= {"3", "4"}


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def garble(path):
    """Turns bytes over, all through the file."""
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content), max(1, len(content) // 7)):
        content[i] ^= 0x5A
    path.write_bytes(content)


def test_no_damage_of_any_file_goes_unnoticed(
    config, cache_dir, stopped_at_four, tmp_path, straight
):
    """Each file in turn: the state is that of step 4, bit for bit, or of step 3."""
    task = SemanticTask(config)
    abstract = checkpoint.abstract_like(
        jax.eval_shape(lambda: task.init_state(1)), sharding.Devices().replicated
    )

    def restored(workdir):
        with checkpoint.Checkpoints(workdir, read_only=True) as kept:
            return jax.device_get(kept.restore_newest(abstract)[0])

    with checkpoint.Checkpoints(stopped_at_four, read_only=True) as kept:
        good = {
            step: jax.device_get(kept.restore(step, abstract)[0]) for step in (3, 4)
        }
    newest = stopped_at_four / "checkpoints" / "4"
    files = [p.relative_to(newest) for p in newest.rglob("*") if p.is_file()]
    assert len(files) > 5
    outcomes = {}
    for i, file in enumerate(sorted(files)):
        for damage in (truncate, garble, os.unlink):
            copy = tmp_path / f"{i}{damage.__name__}"
            shutil.copytree(stopped_at_four, copy)
            damage(copy / "checkpoints" / "4" / file)
            state = restored(copy)
            step = int(state.step)
            jax.tree.map(np.testing.assert_array_equal, state, good[step])
            outcomes[str(file), damage.__name__] = step
            shutil.rmtree(copy)
    assert 3 in outcomes.values()


def test_a_config_of_another_network_is_named(stopped_at_four, caplog):
    path = stopped_at_four / "config.json"
    edited = json.loads(path.read_text())
    edited["model"]["features"] = [4, 16]
    path.write_text(json.dumps(edited))
    with pytest.raises(UserError, match=r"config\.model is not that of the run"):
        load_trained(stopped_at_four)
    assert "kernel is of shape [3, 3, 4, 8] in it, and of" in caplog.text


@pytest.mark.parametrize("name", ["1", "123"])
def test_a_file_where_a_checkpoint_would_be_is_kept(
    config, cache_dir, stopped_at_four, name
):
    path = stopped_at_four / "checkpoints" / name
    path.write_text("mine")
    assert checkpoint_files.steps_on_disk(stopped_at_four) == [4, 3]
    with pytest.raises(UserError, match=f"{name} is a file.* Move it"):
        train(config, stopped_at_four, cache_dir)
    assert path.read_text() == "mine"


def test_early_stopping_ends_a_killed_run_where_it_ends_one_that_was_not(
    config, cache_dir, tmp_path, monkeypatch
):
    """And called again it is complete; with more patience it goes on."""
    config.num_steps, config.eval_every = 12, 2
    config.early_stopping = {"patience": 2, "min_delta": 1.0}
    straight = train(config, tmp_path / "straight", cache_dir)
    assert (straight.step, straight.interrupted) == (6, False)
    assert "in 2 evaluations" in straight.stopped_early

    undo = stop_at(monkeypatch, 5, fail)
    with pytest.raises(Stopped):
        train(config, tmp_path / "killed", cache_dir)
    undo()
    resumed = train(config, tmp_path / "killed", cache_dir)
    assert resumed == straight
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "straight")
    assert (tmp_path / "killed" / "report.html").exists()

    before = (tmp_path / "killed" / "metrics.jsonl").read_bytes()
    assert train(config, tmp_path / "killed", cache_dir) == straight
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == before

    config.early_stopping.patience = 3
    longer = train(config, tmp_path / "killed", cache_dir)
    assert longer.step == 8
    assert "in 3 evaluations" in longer.stopped_early


def test_hooks_know_where_a_resumed_run_starts(
    config, cache_dir, tmp_path, monkeypatch
):
    starts = []

    class Started(Hook):
        def on_start(self, run):
            starts.append(run.step)

    made = {"started": Started()}
    monkeypatch.setattr(runs_train, "make_hooks", lambda config: made)
    undo = stop_at(monkeypatch, 3, fail)
    with pytest.raises(Stopped):
        train(config, tmp_path, cache_dir)
    undo()
    train(config, tmp_path, cache_dir)
    train(config, tmp_path, cache_dir)
    assert starts == [0, 3]
