"""Whole runs under `config.sharding`: the numbers of a run without, resumed on other grids."""

import json
import shutil

import jax
import pytest

from segjax.runs import train as runs_train
from segjax.runs.train import train
from segjax.training import loop
from segjax.training.run_files.writer import read_rows
from segjax.training.sharding import ALONG_DATA, Devices


@pytest.fixture
def config(smoke, monkeypatch):
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    with smoke.unlocked():
        smoke.ema = {"decay": 0.9}
    return smoke


def divided(config, **axes):
    with config.unlocked():
        config.sharding = axes
    return config


def rows_of(workdir):
    """What was logged, without what the clock says."""
    names = ("step", "split", "loss", "gradient_norm", "mean_iou")
    rows = read_rows(workdir / "metrics.jsonl")
    return [{name: row.get(name) for name in names} for row in rows]


@pytest.mark.slow
def test_a_run_with_divided_parameters_is_that_of_whole_ones_and_goes_on_anywhere(
    config, cache_dir, tmp_path, monkeypatch
):
    whole = train(config, tmp_path / "whole", cache_dir)
    config = divided(config, model=4, min_size=16)
    found = train(config, tmp_path / "divided", cache_dir)
    assert found.parameters_sha256 == whole.parameters_sha256
    assert rows_of(tmp_path / "divided") == rows_of(tmp_path / "whole")

    for count in (1, 2):
        shutil.copytree(tmp_path / "divided", tmp_path / str(count))
        on_some = lambda layout=ALONG_DATA, n=count: Devices(jax.devices()[:n], layout)
        monkeypatch.setattr(runs_train, "Devices", on_some)
        config = divided(config, model=count, min_size=16)
        resumed = train(config, tmp_path / str(count), cache_dir)
        assert (resumed.step, resumed.parameters_sha256) == (
            found.step,
            found.parameters_sha256,
        )
    config.num_steps = found.step + 1
    assert train(config, tmp_path / "2", cache_dir).step == found.step + 1


@pytest.mark.slow
def test_what_eight_devices_saved_goes_on_on_two_and_on_one(run_segjax, tmp_path):
    def go_on(folder, devices, steps):
        found = run_segjax(
            *("--config=configs/unet_em.py:smoke", f"--workdir={tmp_path / folder}"),
            *("--config.batch_size=8", f"--config.num_steps={steps}"),
            *(f"--config.sharding.model={devices}", "--config.sharding.min_size=16"),
            devices=devices,
        )
        assert not found.returncode, found.stderr
        answer = json.loads(found.stdout.splitlines()[-1])
        return answer["step"], answer["parameters_sha256"]

    saved = go_on("8", 8, 2)
    for count in (1, 2):
        shutil.copytree(tmp_path / "8", tmp_path / str(count))
        assert go_on(str(count), count, 2) == saved
        assert go_on(str(count), count, 3)[0] == 3


@pytest.mark.slow
def test_a_run_with_divided_rows_is_that_of_whole_images_to_rounding(
    config, cache_dir, tmp_path, monkeypatch
):
    config.batch_size = 2
    config = divided(config, rows=2)
    train(config, tmp_path / "rows", cache_dir)
    monkeypatch.setattr(
        runs_train, "Devices", lambda layout: Devices(jax.devices()[:2], layout)
    )
    train(divided(config), tmp_path / "whole", cache_dir)
    for row, wanted in zip(
        rows_of(tmp_path / "rows"), rows_of(tmp_path / "whole"), strict=True
    ):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
