"""A network with streams and collections of its own, evaluated where its optimizer says."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs import initialization
from segjax.runs.exports.model import export_run
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.tasks.table import make_task
from segjax.training import loop
from segjax.training.optimizers.schedule_free import evaluated_params
from segjax.training.state import parameters_sha256

FOLDER = "examples/own_package"


class Centered(nn.Module):
    """Drops paths and adds noise at random, and follows the centre of its features."""

    num_classes: int
    remembers: bool = False

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(image)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        center = self.variable("centers", "mean", jnp.zeros, (4,))
        if train:
            center.value = (center.value + x.mean((0, 1, 2))) / 2
            path = jax.random.bernoulli(self.make_rng("droppath"), 0.5, x.shape[:1])
            x = x * path[:, None, None, None]
            x = x + 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        if self.remembers:
            self.sow("history", "x", x)
        logits = nn.Conv(self.num_classes, (1, 1), name="logits")(
            x - center.value[None, None, None]
        )
        return {"logits": logits, "features": x}


def spread(outputs, batch):
    """A loss that reads another output than the logits, too."""
    label = jax.nn.one_hot(batch["label"], outputs["logits"].shape[-1])
    brier = jnp.mean((jax.nn.softmax(outputs["logits"]) - label) ** 2)
    square = jnp.mean(outputs["features"] ** 2)
    return brier + 0.01 * square, {"brier": brier, "square": square}


def accumulated(*, schedule):
    free = optax.contrib.schedule_free_sgd(schedule, b1=0.9)
    return optax.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), free), 2)


@pytest.fixture
def config(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "own_state", sys.modules[__name__])
    monkeypatch.syspath_prepend(str(request.config.rootpath / FOLDER))
    monkeypatch.setattr(loop, "plot_run", lambda *_: [request.path])
    monkeypatch.setattr(loop, "write_run_report", lambda *_: request.path)
    config = config_lib.load(f"{request.config.rootpath / FOLDER}/config.py:smoke")
    config.num_steps = 5
    config.model = {"name": "own_state:Centered", "num_classes": 2}
    config.loss = {"name": "own_state:spread"}
    config.optimizer = {"name": "own_state:accumulated"}
    config.schedule = {"name": "constant", "learning_rate": 0.5}
    yield config
    for name in [x for x in sys.modules if x.split(".")[0] == "own_package"]:
        del sys.modules[name]


def test_all_of_the_state_is_saved_resumed_evaluated_and_exported(config, tmp_path):
    straight = train(config, tmp_path / "straight")
    config.num_steps = 3  # in the middle of an accumulation
    train(config, tmp_path / "stopped")
    config.num_steps = 5
    assert train(config, tmp_path / "stopped").metrics == straight.metrics
    leave = {"allow_code": ["own_state", "own_package"]}
    run, resumed = (
        load_trained(tmp_path / x, **leave) for x in ("straight", "stopped")
    )
    assert run.about["state_sha256"] == resumed.about["state_sha256"]

    variables = jax.device_get(run.variables)
    assert parameters_sha256(variables["params"]) == straight.parameters_sha256
    assert (variables["centers"]["mean"] != 0).all()
    found = run.task.evaluate(variables, run.task.open_dataset(None, None))
    assert found.metrics == straight.metrics

    export_run(tmp_path / "straight", tmp_path / "own.segjax", best=False, **leave)
    exported = load_trained(tmp_path / "own.segjax", **leave)
    jax.tree.map(np.testing.assert_array_equal, exported.variables, variables)

    continued = initialization.continued(config, tmp_path / "own.segjax")
    task = make_task(continued)
    weights = initialization.read(continued, task.model, 1, tmp_path, **leave)
    state = task.restart(weights.initialize(jax.jit(lambda: task.init_state(1))()))
    jax.tree.map(np.testing.assert_array_equal, state.variables, variables)
    begins = evaluated_params(state.opt_state, state.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7),
        begins,
        variables["params"],
    )


def test_streams_differ_from_each_other_and_from_step_to_step():
    class Streams(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            names = ("dropout", "droppath", "noise", "noise")
            values = [jax.random.uniform(self.make_rng(name)) for name in names]
            return {"values": jnp.stack(values)}

    from segjax.training.step import forward_image

    def values(seed):
        key = jax.random.key(seed)
        return forward_image(Streams(), {}, {"image": None}, key)[0]["values"].tolist()

    assert len({*values(0), *values(1)}) == 8
    assert values(0) == values(0)


def test_a_collection_that_grows_is_refused(config):
    with config.unlocked():
        config.model.remembers = True
    with pytest.raises(UserError, match=r"collections/history/x/1 was missing, then"):
        make_task(config).open_dataset(None, None)
