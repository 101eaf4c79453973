"""The loop: what it logs, when it saves, and how it stops at numbers that are none."""

import json

import jax
import numpy as np
import pytest

from segjax.train import checkpoint, loop
from segjax.train.loop import train
from segjax.train.task import SemanticTask
from segjax.train.writer import read_rows
from segjax.types import UserError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(loop, "draw_run", lambda workdir, *_: [workdir])


def test_logs_evaluations_and_checkpoints_come_when_they_should(
    smoke, data_dir, tmp_path
):
    smoke.num_steps, smoke.log_every = 7, 3
    smoke.eval_every, smoke.checkpoint_every = 4, 5
    result = train(smoke, tmp_path, data_dir)
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


def test_a_loss_that_is_not_finite_stops_with_step_and_records(
    smoke, data_dir, tmp_path
):
    """A rate that overflows: the first step is finite, the next ones are not."""
    smoke.num_steps, smoke.checkpoint_every, smoke.eval_every = 9, 1, 9
    smoke.optimizer.clip_norm = 1e30
    smoke.schedule.peak = 1e37
    smoke.schedule.warmup_steps = 0
    smoke.model.batch_norm = False
    smoke.optimizer = {"name": "sgd", "momentum": 0.0}
    with pytest.raises(UserError) as caught:
        train(smoke, tmp_path, data_dir)
    sentence = str(caught.value)
    step = int(sentence.split("Step ")[1].split()[0])
    assert "is not finite" in sentence
    task = SemanticTask(smoke)
    dataset = task.open_dataset(data_dir, None)
    for name in task.records_of_step(dataset, step - 1):
        assert name in sentence
    assert "config.schedule.peak" in sentence
    with checkpoint.Checkpoints(tmp_path, read_only=True) as kept:
        assert all(saved < step for saved in kept.steps())
    if step > 1:
        assert f"that of step {step - 1}" in sentence


def test_records_of_a_step_are_those_of_its_batch(smoke, data_dir):
    task = SemanticTask(smoke)
    dataset = task.open_dataset(data_dir, None)
    with task.batches(dataset, 3) as batches:
        ids = next(batches)["record"]
    names = [dataset.splits["train"][int(i)]["name"] for i in ids]
    assert task.records_of_step(dataset, 3) == list(dict.fromkeys(names))


def test_classes_of_network_and_data_must_agree(smoke, data_dir, tmp_path):
    smoke.model.num_classes = 3
    with pytest.raises(UserError, match=r"config\.model\.num_classes is 3"):
        train(smoke, tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_not_there_is_refused_before_training(
    smoke, data_dir, tmp_path
):
    smoke.evaluation.split = "vaildation"
    with pytest.raises(UserError, match='no images in a split "vaildation"'):
        train(smoke, tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("steps", [-1, 2, 5])
def test_warmup_must_fit_into_the_run(smoke, steps):
    smoke.schedule.warmup_steps = steps
    said = f"warmup_steps is {steps}: .* --config.schedule.warmup_steps=\\d"
    with pytest.raises(UserError, match=said):
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


def test_bfloat16_is_a_key_of_the_config(smoke, data_dir):
    """One step: computed in bfloat16; logits and what is kept are float32."""
    smoke.model.dtype = "bfloat16"
    task = SemanticTask(smoke)
    dataset = task.open_dataset(data_dir, None)
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
