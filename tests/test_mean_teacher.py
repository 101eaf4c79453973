"""The example of a step of one's own: mean teacher on images without labels."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs.exports.model import export_run
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.tasks.table import make_task
from segjax.training import loop
from segjax.training.optimizers.ema import EMA
from segjax.training.step import state_of

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "mean_teacher"


@pytest.fixture
def config(monkeypatch):
    """The experiment in seconds, the rate of which does not depend on the number of steps."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(loop, "plot_run", lambda *_: [FOLDER / "config.py"])
    monkeypatch.setattr(loop, "write_run_report", lambda *_: FOLDER / "config.py")
    config = config_lib.load(f"{FOLDER}/config.py:smoke")
    config.schedule = {"name": "constant", "learning_rate": 3e-3}
    yield config
    sys.modules.pop("mean_teacher", None)


def batches_of(task, dataset, start, count):
    with task.batches(dataset, start) as batches:
        return [next(batches) for _ in range(count)]


def test_a_run_learns_from_both_streams_and_resumes_bit_for_bit(
    config, cache_dir, tmp_path
):
    straight = train(config, tmp_path / "straight", cache_dir)
    assert straight.step == 4
    config.num_steps = 2
    train(config, tmp_path / "stopped", cache_dir)
    config.num_steps = 4
    resumed = train(config, tmp_path / "stopped", cache_dir)
    assert resumed.parameters_sha256 == straight.parameters_sha256
    assert resumed.metrics == straight.metrics
    trained = [load_trained(tmp_path / x) for x in ("straight", "stopped")]
    digests = {x.about["state_sha256"] for x in trained}
    assert len(digests) == 1  # of student, teacher and optimizer

    exported = export_run(tmp_path / "straight", tmp_path / "teacher.segjax")
    assert exported["parameters_sha256"] == straight.parameters_sha256
    model = load_trained(tmp_path / "teacher.segjax")
    jax.tree.map(np.testing.assert_array_equal, model.variables, trained[0].variables)
    assert "unlabeled" not in model.task.config.data
    assert "mean_teacher" in sys.modules  # of the training alone


def test_both_streams_are_functions_of_the_step(config, cache_dir):
    task = make_task(config)
    dataset = task.open_dataset(cache_dir, None)
    first = batches_of(task, dataset, 0, 3)
    assert {key: x.shape for key, x in first[0].items()} == {
        key: x.shape for key, x in task.abstract_batch(1, 4).items()
    }
    (again,) = batches_of(task, dataset, 2, 1)
    jax.tree.map(np.testing.assert_array_equal, again, first[2])
    assert (first[0]["unlabeled"] != first[1]["unlabeled"]).any()


def test_images_of_a_folder_need_no_labels(config, cache_dir, tmp_path):
    for i in range(3):
        image = np.full((40, 48), 60 * i, np.uint8)
        image[:20] += 50
        (tmp_path / "frames" / "more").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "frames" / "more" / f"{i}.png")
    config.data.unlabeled = {"folder": str(tmp_path / "frames"), "batch_size": 8}
    task = make_task(config)
    dataset = task.open_dataset(cache_dir, None)
    assert [x["name"] for x in dataset.splits["unlabeled"]] == [
        f"more/{i}" for i in range(3)
    ]
    (batch,) = batches_of(task, dataset, 0, 1)
    assert batch["unlabeled"].shape == (8, 32, 32, 1)
    assert np.isfinite(batch["unlabeled"]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ema": None}, "config.step: the teacher is config.ema, which is not set"),
        ({"step": None}, "config.data.unlabeled has no use without config.step"),
        ({"data.unlabeled.batch_size": 0}, "is the number of images of one step"),
        ({"data.unlabeled": "frames"}, "must be a group"),
        ({"data.unlabeled": {"folder": "frames"}}, "images of one step.*got None"),
        (
            {"data.unlabeled": {"batch_size": 4}},
            "names no images: give folder, or name",
        ),
        ({"step": {"name": "own_step:stateless"}}, "another state than it gets"),
        ({"step": {"name": "own_step:silent"}}, r"gives the metrics \{\}"),
        ({"step": {"name": "own_step:fails"}}, "fails: KeyError: 'images'"),
    ],
)
def test_what_does_not_fit_is_refused(config, cache_dir, monkeypatch, changes, words):
    monkeypatch.setitem(sys.modules, "own_step", sys.modules[__name__])
    with config.unlocked(), config.ignore_type():
        for key, value in changes.items():
            config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=words):
        make_task(config).open_dataset(cache_dir, None)


def stateless():
    return lambda state, batch: (state.params, {"loss": jnp.zeros(())})


def silent():
    return lambda state, batch: (state, {})


def fails():
    return lambda state, batch: (state, {"loss": batch["images"].mean()})


def test_the_cost_is_that_of_the_paper(config):
    from mean_teacher import mean_teacher

    ema, optimizer = EMA(decay=0.5, warmup=False), optax.sgd(1.0)
    logits = lambda variables, image: variables["params"]["scale"] * image

    def forward(model, variables, batch, key):
        return {"logits": logits(variables, batch["image"])}, {}

    step = mean_teacher(
        None,
        lambda outputs, batch: jnp.mean(outputs["logits"] * batch["label"]),
        optimizer,
        optax.constant_schedule(1.0),
        0,
        forward,
        ema,
        weight=4.0,
        ramp_steps=2,
        noise=0.0,
    )
    image = jnp.asarray([[1.0, -1.0]]), jnp.asarray([[2.0, 0.5], [0.0, 3.0]])
    batch = {"image": image[0], "unlabeled": image[1], "label": jnp.full((1, 2), 3.0)}
    student, teacher = {"scale": jnp.float32(0.5)}, {"scale": jnp.float32(2.0)}
    state = state_of({"params": student}, optimizer, ema)
    state = state.replace(step=jnp.int32(1), ema={**state.ema, "params": teacher})
    new, metrics = step(state, batch)

    def cost(scale):
        seen = jnp.concatenate(image)
        difference = jax.nn.softmax(scale * seen) - jax.nn.softmax(2.0 * seen)
        growth = jnp.exp(-5 * (1 - 1 / 2) ** 2)
        return jnp.mean(scale * image[0] * 3.0) + 4.0 * growth * jnp.mean(difference**2)

    value, slope = jax.value_and_grad(cost)(0.5)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(new.params["scale"], 0.5 - slope, rtol=1e-6)
    mean = (2.0 + new.params["scale"]) / 2
    np.testing.assert_allclose(new.ema["params"]["scale"], mean, rtol=1e-6)
