"""A run with an optimizer of Optax, and with blocks that are computed again, resumes bit for bit."""

import ml_collections

from segjax.runs.train import train
from segjax.training import loop

MUON = {
    "name": "optax.contrib:muon",
    "adam_learning_rate": 1e-4,
    "weight_decay": 1e-2,
    "layer_decay": 0.8,
}


def plot_nothing(workdir, *_):
    """Leaves the file behind that says that pictures are done."""
    curves = workdir / "pictures" / "curves.png"
    curves.parent.mkdir(exist_ok=True)
    curves.write_bytes(b"")
    return [curves]


def test_a_run_in_two_parts_ends_as_one_in_one(smoke, cache_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "plot_run", plot_nothing)
    smoke.optimizer = ml_collections.ConfigDict(MUON)
    smoke.schedule = {"name": "constant", "learning_rate": 1e-3}
    smoke.model.features = (16, 16)
    smoke.model.remat = True
    smoke.eval_every = smoke.checkpoint_every = 4
    smoke.num_steps = 4
    straight = train(smoke, tmp_path / "straight", cache_dir)
    smoke.num_steps = 1
    train(smoke, tmp_path / "parts", cache_dir)
    smoke.num_steps = 4
    resumed = train(smoke, tmp_path / "parts", cache_dir)
    assert resumed.parameters_sha256 == straight.parameters_sha256
