"""The same numbers on one device, on four, and in two processes."""

import contextlib
import json
import signal
import socket
import threading

import jax
import numpy as np
import pytest

from segjax.train import checkpoint, loop
from segjax.train import workdir as workdir_lib
from segjax.train.loop import train
from segjax.train.sharding import Devices
from segjax.train.writer import read_rows

STEPS = 20


@pytest.fixture
def config(smoke):
    smoke.num_steps = STEPS
    smoke.eval_every = smoke.checkpoint_every = STEPS
    return smoke


def losses(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return {row["step"]: row["loss"] for row in rows if row["split"] == "train"}


def measured(workdir, step):
    rows = read_rows(workdir / "metrics.jsonl")
    (row,) = [r for r in rows if r["split"] == "validation" and r["step"] == step]
    return row


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for step, value in expected.items():
        assert found[step] == pytest.approx(value, abs=1e-5)


def test_one_device_and_four_give_the_same_losses(
    config, data_dir, tmp_path, monkeypatch
):
    assert jax.device_count() == 4
    monkeypatch.setattr(loop, "draw_run", lambda workdir, *_: [workdir])
    train(config, tmp_path / "four", data_dir)
    monkeypatch.setattr(loop, "Devices", lambda: Devices(jax.devices()[:1]))
    train(config, tmp_path / "one", data_dir)
    assert len(losses(tmp_path / "one")) == STEPS
    assert_close(losses(tmp_path / "four"), losses(tmp_path / "one"))


class Pair:
    """Two processes with two devices each, working on one run."""

    def __init__(self, start, *arguments, each=((), ())):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        together = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
        self.processes = [
            start(*arguments, *each[i], *together, f"--process_id={i}", devices=2)
            for i in range(2)
        ]
        self.stderr = ["", ""]
        self.stdout = ["", ""]

    def communicate(self, when="", action=None):
        """Reads to the end; calls `action` once when process 0 writes `when`."""

        def read(i):
            for line in self.processes[i].stderr:
                self.stderr[i] += line
                if i == 0 and action and when in line:
                    action()

        def read_out(i):
            self.stdout[i] = self.processes[i].stdout.read()

        threads = [
            threading.Thread(target=f, args=(i,))
            for i in (0, 1)
            for f in (read, read_out)
        ]
        for thread in threads:
            thread.start()
        codes = [process.wait(timeout=300) for process in self.processes]
        for thread in threads:
            thread.join()
        return codes

    def terminate(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)

    def end(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.stdout.close()
            process.stderr.close()


def test_two_processes_are_one_run(
    config, data_dir, tmp_path, monkeypatch, start_segjax
):
    """They give the losses of one process, save on SIGTERM, and one can go on."""
    monkeypatch.setattr(loop, "draw_run", lambda workdir, *_: [workdir])
    config.num_steps, config.eval_every = 10 * STEPS, STEPS
    pair = Pair(
        start_segjax,
        "--config=configs/unet_em.py:smoke",
        f"--config.num_steps={config.num_steps}",
        f"--config.eval_every={config.eval_every}",
        f"--config.checkpoint_every={config.checkpoint_every}",
        f"--workdir={tmp_path / 'two'}",
        f"--data_dir={data_dir}",
    )
    try:
        codes = pair.communicate(f"step {STEPS}/", pair.terminate)
    finally:
        pair.end()
    assert codes == [0, 0], pair.stderr
    results = [json.loads(out.splitlines()[-1]) for out in pair.stdout]
    assert results[0] == results[1]
    stopped = results[0]["step"]
    assert STEPS <= stopped < config.num_steps
    assert results[0]["interrupted"]

    config.num_steps = stopped
    smaller = losses(tmp_path / "two")
    with checkpoint.Checkpoints(tmp_path / "two", read_only=True) as kept:
        assert kept.steps()[0] == stopped
        about = kept.newest_about()
    assert about["parameters_sha256"] == results[0]["parameters_sha256"]

    config.num_steps = 10 * STEPS
    update = loop.Progress.update

    def stop_at_the_same_step(self, step):
        update(self, step)
        if step == stopped - 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop.Progress, "update", stop_at_the_same_step)
    train(config, tmp_path / "one", data_dir)
    assert_close(smaller, losses(tmp_path / "one"))
    one, two = (measured(tmp_path / name, STEPS) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in ("mean_iou", "pixel_error", "rand_error"):
        assert one[name] == pytest.approx(two[name], abs=2e-3)

    monkeypatch.setattr(loop.Progress, "update", update)
    config.num_steps = stopped + 1
    resumed = train(config, tmp_path / "two", data_dir)
    assert resumed.step == stopped + 1
    assert np.isfinite(losses(tmp_path / "two")[stopped + 1])


@pytest.mark.parametrize("alone", ["locked", "config", "data"])
def test_what_stops_one_process_stops_the_other(
    alone, data_dir, tmp_path, start_segjax
):
    """Process 0 finds the folder taken; process 1 has another config, or no data."""
    run = tmp_path / "run"
    run.mkdir()
    common = ("--config=configs/unet_em.py:smoke", f"--workdir={run}")
    each = ((f"--data_dir={data_dir}",), (f"--data_dir={data_dir}",))
    if alone == "config":
        each = (each[0], (*each[1], "--config.seed=1"))
        sentences = ["Process 1 has another config than process 0"] * 2
    elif alone == "data":
        (tmp_path / "file").write_text("")
        each = (each[0], (f"--data_dir={tmp_path / 'file'}",))
        sentences = [f"Process 1: {tmp_path / 'file'}", f"{tmp_path / 'file'} cannot"]
    else:
        own = f"Another process is working in --workdir={run}"
        sentences = [own, f"Process 0: {own}"]
    holder = workdir_lib.lock(run) if alone == "locked" else contextlib.nullcontext()
    with holder:
        pair = Pair(start_segjax, *common, each=each)
        try:
            codes = pair.communicate()
        finally:
            pair.end()
    assert codes == [1, 1], pair.stderr
    for stderr, sentence in zip(pair.stderr, sentences, strict=True):
        assert f"segjax: {sentence}" in stderr
        assert "Traceback" not in stderr
