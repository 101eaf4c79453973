"""The loop: what it logs, when it saves, and how it stops at non-finite values."""

import json
import re

import jax
import numpy as np
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs.train import train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop, sharding
from segjax.training.checkpoints import checkpoint, checkpoint_files
from segjax.training.run_files import writer
from segjax.training.run_files.writer import read_rows


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])


def test_logs_evaluations_and_checkpoints_come_when_they_should(
    smoke, cache_dir, tmp_path
):
    smoke.num_steps, smoke.log_every = 7, 3
    smoke.eval_every, smoke.checkpoint_every = 4, 5
    result = train(smoke, tmp_path, cache_dir)
    rows = read_rows(tmp_path / "metrics.jsonl")
    steps = lambda split: [row["step"] for row in rows if row["split"] == split]
    assert steps("train") == [3, 4, 5, 6, 7]
    assert steps("validation") == [4, 7]
    last = rows[-1]
    assert last["mean_iou"] == pytest.approx(result.metrics["mean_iou"])
    first = rows[0]
    assert first.keys() >= {
        "loss",
        "gradient_norm",
        "learning_rate",
        "steps_per_second",
    }
    with checkpoint.Checkpoints(tmp_path, read_only=True) as kept:
        assert kept.steps()[:2] == [7, 5]
        about = kept.newest_about()
    assert about["parameters_sha256"] == result.parameters_sha256
    assert about["config"] == json.loads((tmp_path / "config.json").read_text())


@pytest.mark.parametrize(
    ("place", "name"),
    [(loop, "read_rows"), (writer.Writer, "__init__"), (writer.Writer, "write")],
)
def test_what_fails_for_one_process_alone_is_reported_to_the_others(
    place, name, smoke, cache_dir, tmp_path, monkeypatch
):
    """Else they wait for it for ever: only process 0 writes the log."""

    def fail(*_, **__):
        raise UserError("The log is gone.")

    failures, agree = [], sharding.agree

    def noted(failure):
        failures.append(failure)
        agree(failure)

    monkeypatch.setattr(place, name, fail)
    monkeypatch.setattr(sharding, "agree", noted)
    with pytest.raises(UserError, match="The log is gone") as caught:
        train(smoke, tmp_path, cache_dir)
    assert failures[-1] is caught.value


@pytest.fixture
def diverging(smoke):
    """A rate that overflows within a few steps."""
    smoke.num_steps, smoke.checkpoint_every, smoke.eval_every = 9, 1, 9
    smoke.schedule.learning_rate = 1e37
    smoke.schedule.warmup_steps = 0
    smoke.model.norm = None
    smoke.optimizer = {"name": "sgd", "momentum": 0.0, "clip_norm": 1e30}
    return smoke


def test_a_loss_that_is_not_finite_stops_with_step_and_records(
    diverging, cache_dir, tmp_path
):
    """And neither the step nor what it made of the parameters is saved."""
    with pytest.raises(UserError) as caught:
        train(diverging, tmp_path, cache_dir)
    sentence = str(caught.value)
    step = int(sentence.split("tep ")[1].split()[0])
    assert "not finite" in sentence
    task = SemanticTask(diverging)
    dataset = task.open_dataset(cache_dir, None)
    for name in task.records_of_step(dataset, step - 1):
        assert name in sentence
    assert "config.schedule.learning_rate" in sentence
    assert all(saved < step for saved in checkpoint_files.steps_on_disk(tmp_path))


def test_no_checkpoint_is_named_where_there_is_none(diverging, cache_dir, tmp_path):
    diverging.checkpoint_every = 9
    with pytest.raises(UserError, match=r"No checkpoint is from before .*begin anew"):
        train(diverging, tmp_path, cache_dir)


def with_losses(losses):
    """A step of training that is said to have these losses, one after the other."""
    run = loop.CompiledStep.__call__

    def step(self, state, batch):
        state, metrics = run(self, state, batch)
        return state, {**metrics, "loss": np.float32(losses[int(state.step) - 1])}

    return step


@pytest.fixture
def diverged(smoke, cache_dir, tmp_path, monkeypatch):
    """A run that goes well for two steps, rises for two, and ends in infinity."""
    smoke.num_steps, smoke.checkpoint_every, smoke.eval_every = 9, 1, 9
    smoke.schedule.warmup_steps = 0
    losses = (0.75, 0.5, 40.0, 5000.0, np.inf)
    with monkeypatch.context() as patch:
        patch.setattr(loop.CompiledStep, "__call__", with_losses(losses))
        with pytest.raises(UserError) as caught:
            train(smoke, tmp_path / "run", cache_dir)
        with pytest.raises(UserError) as again:
            train(smoke, tmp_path / "run", cache_dir)
    return str(caught.value), str(again.value)


def test_only_a_checkpoint_from_before_the_loss_rose_is_named(diverged):
    """Those of steps 3 and 4 are newest, finite, and useless: step 2 is gone by then."""
    first, again = diverged
    assert first.startswith("Step 5 is not finite (")
    assert "No checkpoint is from before the loss left its range" in first
    assert again == first


def test_the_checkpoint_that_is_named_can_be_gone_on_from(
    smoke, cache_dir, tmp_path, monkeypatch
):
    smoke.num_steps, smoke.checkpoint_every, smoke.eval_every = 9, 1, 9
    smoke.evaluation.cell_class = None
    smoke.schedule.warmup_steps = 0
    losses = (0.75, 0.5, 40.0, np.nan)
    with monkeypatch.context() as patch:
        patch.setattr(loop.CompiledStep, "__call__", with_losses(losses))
        with pytest.raises(UserError) as caught:
            train(smoke, tmp_path / "run", cache_dir)
    sentence = str(caught.value)
    assert "Step 4 is not finite" in sentence
    assert "with the checkpoint of step 2, from before" in sentence
    (line,) = re.findall(r"config\.initialization = dict\(.*?\)", sentence)
    smoke.schedule.learning_rate, smoke.num_steps = 1e-4, 1
    (tmp_path / "config.py").write_text(
        f"import ml_collections\ndef get_config(preset):\n"
        f"    config = ml_collections.ConfigDict({smoke.to_dict()!r})\n"
        f"    {line}\n    return config\n"
    )
    train(config_lib.load(str(tmp_path / "config.py")), tmp_path / "other", cache_dir)
    (about,) = checkpoint_files.abouts_on_disk(tmp_path / "other")
    saved = {a["step"]: a for a in checkpoint_files.abouts_on_disk(tmp_path / "run")}
    assert saved.keys() == {2, 3}
    assert about["initialization"]["sha256"] == saved[2]["parameters_sha256"]


def test_parameters_that_are_not_finite_are_not_saved(
    smoke, cache_dir, tmp_path, monkeypatch
):
    """The last update can overflow while all that the step measured is finite."""
    smoke.num_steps, smoke.checkpoint_every, smoke.eval_every = 9, 2, 9
    smoke.schedule.warmup_steps = 0
    run = loop.CompiledStep.__call__

    def overflowing(self, state, batch):
        state, metrics = run(self, state, batch)
        if int(state.step) == 4:
            params = jax.tree.map(lambda x: x + np.inf, state.params)
            state = state.replace(params=params)
        return state, metrics

    monkeypatch.setattr(loop.CompiledStep, "__call__", overflowing)
    with pytest.raises(UserError, match="parameters after step 4 are not finite"):
        train(smoke, tmp_path, cache_dir)
    assert checkpoint_files.steps_on_disk(tmp_path) == [2]


def test_records_of_a_step_are_those_of_its_batch(smoke, cache_dir):
    task = SemanticTask(smoke)
    dataset = task.open_dataset(cache_dir, None)
    with task.batches(dataset, 3) as batches:
        ids = next(batches)["record"]
    names = [dataset.splits["train"][int(i)]["name"] for i in ids]
    assert task.records_of_step(dataset, 3) == list(dict.fromkeys(names))


def test_classes_of_network_and_data_must_agree(smoke, cache_dir, tmp_path):
    smoke.model.num_classes = 3
    with pytest.raises(UserError, match=r"config\.model\.num_classes is 3"):
        train(smoke, tmp_path / "run", cache_dir)
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_not_there_is_refused_before_training(
    smoke, cache_dir, tmp_path
):
    smoke.evaluation.split = "vaildation"
    with pytest.raises(UserError, match='no images in a split "vaildation"'):
        train(smoke, tmp_path / "run", cache_dir)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("steps", [-1, 2, 5])
def test_warmup_must_fit_into_the_run(smoke, steps):
    smoke.schedule.warmup_steps = steps
    sentence = f"warmup_steps is {steps}: .* --config.schedule.warmup_steps=\\d"
    with pytest.raises(UserError, match=sentence):
        SemanticTask(smoke)


@pytest.mark.parametrize("size", [(64.0, 64), (64, True), ("64", 64)])
def test_a_crop_is_whole_pixels(smoke, size):
    with smoke.ignore_type():
        smoke.pipeline.input_size = size
    with pytest.raises(UserError, match=r"input_size is .* in whole pixels"):
        SemanticTask(smoke)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dropout_rate", 1.5), ("dtype", "float31"), ("features", (4, -8))],
)
def test_a_wrong_network_names_the_group(smoke, key, value):
    smoke.model[key] = value
    with pytest.raises(UserError, match=rf"config\.model: {key} "):
        SemanticTask(smoke)


def test_bfloat16_is_a_key_of_the_config(smoke, cache_dir):
    """One step: computed in bfloat16; logits and what is kept are float32."""
    smoke.model.dtype = "bfloat16"
    task = SemanticTask(smoke)
    dataset = task.open_dataset(cache_dir, None)
    state = task.init_state(dataset.channels)
    with task.batches(dataset, 0) as batches:
        batch = next(batches)
    logits = jax.eval_shape(task.logits, state.variables, batch["image"])
    assert logits.dtype == np.float32
    lowered = jax.jit(task.train_step).lower(state, batch)
    assert "bf16" in lowered.as_text()
    new, metrics = lowered.compile()(state, batch)
    assert {str(x.dtype) for x in jax.tree.leaves(new.params)} == {"float32"}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
