"""Losses of objects from outside: they read any output, and one that does not fit is refused."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.losses import INSTANCE_LOSSES
from segjax.tasks.table import make_task

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "mask_rcnn_shapes.py"


def everything(outputs, batch, *, weight):
    """The usual loss, and a penalty of every output in floating point."""
    usual, parts = INSTANCE_LOSSES["mask_rcnn"](outputs, batch)
    leaves = [
        x for x in jax.tree.leaves(outputs) if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    penalty = weight * sum(jnp.mean(x**2) for x in leaves)
    return usual + penalty, {**parts, "outputs": jnp.float32(len(leaves))}


def by_image(outputs, batch):
    """Not a loss: it has a number for each image."""
    return batch["image"].mean((1, 2, 3))


def missing(outputs, batch):
    return outputs["edges"].mean()


def opened(monkeypatch, cache_dir, loss):
    monkeypatch.setitem(sys.modules, "own_loss", sys.modules[__name__])
    config = config_lib.load(f"{CONFIG}:smoke")
    config.loss = loss
    config.ema = {"decay": 0.9}
    task = make_task(config)
    return task, task.open_dataset(cache_dir, None)


def test_a_loss_reads_any_output_and_the_average_follows(monkeypatch, cache_dir):
    loss = {"name": "own_loss:everything", "weight": 1e-3}
    task, dataset = opened(monkeypatch, cache_dir, loss)
    state = jax.eval_shape(lambda: task.init_state(dataset.channels))
    batch = task.abstract_batch(dataset.channels, task.config.batch_size)
    new, metrics = jax.eval_shape(task.train_step, state, batch)
    assert {"loss", "outputs", "mask_loss"} <= metrics.keys()
    assert jax.tree.structure(new.ema["params"]) == jax.tree.structure(state.params)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("by_image", r"config\.loss\.name='own_loss:by_image' fails: TypeError"),
        ("missing", r"fails: KeyError: 'edges' \(.*test_loss\.py, line"),
    ],
)
def test_one_that_does_not_fit_is_refused_in_a_sentence(
    monkeypatch, cache_dir, name, words
):
    with pytest.raises(UserError, match=words):
        opened(monkeypatch, cache_dir, {"name": f"own_loss:{name}"})
