"""Runs with optimizers of Optax, an average, mixing, and blocks that are computed again, resume
bit for bit.
"""

import ml_collections
import pytest

from segjax.runs.train import train
from segjax.training import loop
from segjax.training.checkpoints import checkpoint

LION = {"name": "optax:lion", "weight_decay": 1e-2, "accumulate": 2, "clip_norm": 1.0}
MUON = {
    "name": "optax.contrib:muon",
    "adam_learning_rate": 1e-4,
    "weight_decay": 1e-2,
    "layer_decay": 0.8,
}
SCHEDULE_FREE = {"name": "optax.contrib:schedule_free_adamw"}
AVERAGED = {"ema": {"decay": 0.5}, "mix": {"name": "cutmix", "probability": 1.0}}


def plot_nothing(workdir, *_):
    """Leaves the file behind that says that pictures are done."""
    curves = workdir / "pictures" / "curves.png"
    curves.parent.mkdir(exist_ok=True)
    curves.write_bytes(b"")
    return [curves]


def state_sha256(workdir):
    """Hash of all of the newest state: parameters, averages, moments."""
    with checkpoint.Checkpoints(workdir, read_only=True) as kept:
        return kept.newest_about()["state_sha256"]


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("optimizer", "remat", "more"),
    [(MUON, True, {}), (LION, False, {}), (SCHEDULE_FREE, False, AVERAGED)],
    ids=["muon and remat", "lion", "schedule-free, averaged, and cutmix"],
)
def test_a_run_in_two_parts_ends_as_one_in_one(
    optimizer, remat, more, smoke, cache_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "plot_run", plot_nothing)
    smoke.update(more)
    smoke.optimizer = ml_collections.ConfigDict(optimizer)
    smoke.schedule = {"name": "constant", "learning_rate": 1e-3}
    smoke.model.features = (16, 16)
    smoke.model.remat = remat
    smoke.eval_every = smoke.checkpoint_every = 4
    smoke.num_steps = 4
    straight = train(smoke, tmp_path / "straight", cache_dir)
    smoke.num_steps = 1  # in the middle of what is accumulated
    train(smoke, tmp_path / "parts", cache_dir)
    smoke.num_steps = 4
    resumed = train(smoke, tmp_path / "parts", cache_dir)
    assert resumed.parameters_sha256 == straight.parameters_sha256
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "straight")
