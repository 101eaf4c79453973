"""The same numbers on one device, on four, and in two processes.

The batches are the same bits in every layout. Sums are not: every layout adds in an order
of its own, as does every width of vectors and every number of cores, so what is summed is
compared to bounds, each of which says where it is from.
"""

import contextlib
import json
import resource
import signal
import socket
import threading

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from segjax.models import unet
from segjax.ops.pooling.windowed import avg_pool
from segjax.runs import train as runs_train
from segjax.runs.train import train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop
from segjax.training.checkpoints import checkpoint
from segjax.training.progress import Progress
from segjax.training.run_files import workdir as workdir_lib
from segjax.training.run_files.writer import read_rows
from segjax.training.sharding import ALONG_DATA, Devices

STEPS = 20

SUMMED = 4 * 64 * 64
"""Pixels of a batch: what losses, gradients and statistics are sums over."""

ROUNDING = float(np.finfo(np.float32).eps) * SUMMED**0.5
"""What the order of a float32 sum can change it by, relatively: 1.5e-5.

In the worst case n eps, but rounding errors have either sign: sqrt(n) eps is exceeded
with negligible probability (Higham and Mary 2019, "A new approach to probabilistic
rounding error analysis"). Measured: 4e-7 at most, for the gradients of 12 seeds.
"""

TRAINED = 5e-4
"""What rounding may change a loss of the first 20 steps by; ten times what was measured.

Half of the runs stay within 2e-7. In the others an activation lies so near the kink of a
ReLU, or to another one in its window of a maximum, that the last bit decides which way a
gradient goes. Measured, largest of all steps: 3.3e-5 between one, two and four
devices (12 seeds, AVX-512, AVX2 and SSE4.2); 5.0e-5 where the last bit of each parameter
was sampled anew at each step (8 seeds, 16 samples each). An example that is seen twice instead
of its neighbour changes a loss by 5.8e-3 at least (8 seeds).
"""

MEASURED = 8e-3
"""The same for what is measured after these steps, on 16,384 pixels; measured: 8.2e-4."""


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


def assert_trained_alike(found, expected):
    """Compares the losses of two runs, the first of which no rounding has preceded."""
    assert found.keys() == expected.keys()
    assert found[1] == pytest.approx(expected[1], rel=ROUNDING)
    for step in range(2, STEPS + 1):
        assert found[step] == pytest.approx(expected[step], abs=TRAINED), step


def first_devices(count):
    return lambda layout=ALONG_DATA: Devices(jax.devices()[:count], layout)


@pytest.mark.slow
def test_one_device_and_four_see_the_same_batches_and_give_the_same_losses(
    config, cache_dir, tmp_path, monkeypatch
):
    assert jax.device_count() == 4
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    put_batch = Devices.put_batch
    seen = {1: [], 4: []}

    def noted(self, batch):
        placed = put_batch(self, batch)
        seen[self.count].append(jax.device_get(placed))
        return placed

    monkeypatch.setattr(Devices, "put_batch", noted)
    for count, batches in seen.items():
        monkeypatch.setattr(runs_train, "Devices", first_devices(count))
        train(config, tmp_path / str(count), cache_dir)
        assert len(batches) == 1 + STEPS  # the one of zeros is that of the timing
    jax.tree.map(np.testing.assert_array_equal, *seen.values())
    assert len(losses(tmp_path / "1")) == STEPS
    assert_trained_alike(losses(tmp_path / "4"), losses(tmp_path / "1"))


def first_gradient(task, dataset, batch, count):
    """The loss and the gradient of the program that trains on so many devices.

    The gradient is that of Adam's first moment: clipped, and times 1 - b1.
    """
    devices = first_devices(count)()
    initial = jax.device_get(jax.jit(lambda: task.init_state(dataset.channels))())
    state = devices.put_state(initial)
    step = loop.compile_step(task, dataset, devices, state)
    state, metrics = step(state, devices.put_batch(batch))
    moment = jax.tree.leaves(optax.tree.get(state.opt_state, "mu"))
    return float(metrics["loss"]), np.concatenate([np.ravel(x) for x in moment])


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_the_first_gradient_is_that_of_one_device(
    count, config, cache_dir, monkeypatch
):
    """Of a U-Net without kinks.

    At the kink of a ReLU, or where two values share a maximum, the last bit of a sum
    decides which way a gradient goes, which is no rounding of the gradient.
    """
    monkeypatch.setattr(nn, "relu", nn.softplus)
    monkeypatch.setattr(unet, "max_pool", avg_pool)
    task = SemanticTask(config)
    dataset = task.open_dataset(cache_dir, None)
    with task.batches(dataset, 0) as batches:
        batch = next(batches)
    loss, gradient = first_gradient(task, dataset, batch, 1)
    found_loss, found = first_gradient(task, dataset, batch, count)
    allowed = ROUNDING * np.linalg.norm(gradient)
    assert allowed > 0
    assert found_loss == pytest.approx(loss, rel=ROUNDING)
    assert np.linalg.norm(found - gradient) <= allowed

    twice = {name: x[[0, 1, 2, 0]] for name, x in batch.items()}
    _, other = first_gradient(task, dataset, twice, count)
    assert np.linalg.norm(other - gradient) > 100 * allowed


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

    def communicate(self, patience, when="", action=None):
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
        codes = [process.wait(timeout=patience) for process in self.processes]
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
    config, cache_dir, tmp_path, monkeypatch, start_segjax, patience
):
    """They give the losses of one process, save on SIGTERM, and one can go on."""
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    config.num_steps, config.eval_every = 10 * STEPS, STEPS
    pair = Pair(
        start_segjax,
        "--config=configs/unet_em.py:smoke",
        f"--config.num_steps={config.num_steps}",
        f"--config.eval_every={config.eval_every}",
        f"--config.checkpoint_every={config.checkpoint_every}",
        f"--workdir={tmp_path / 'two'}",
        f"--cache_dir={cache_dir}",
    )
    try:
        codes = pair.communicate(patience, f"step {STEPS}/", pair.terminate)
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
    update = Progress.update

    def stop_at_the_same_step(self, step):
        update(self, step)
        if step == stopped - 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Progress, "update", stop_at_the_same_step)
    train(config, tmp_path / "one", cache_dir)
    assert_trained_alike(smaller, losses(tmp_path / "one"))
    one, two = (measured(tmp_path / name, STEPS) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in ("mean_iou", "pixel_error", "rand_error"):
        assert one[name] == pytest.approx(two[name], abs=MEASURED)

    monkeypatch.setattr(Progress, "update", update)
    config.num_steps = stopped + 1
    resumed = train(config, tmp_path / "two", cache_dir)
    assert resumed.step == stopped + 1
    assert np.isfinite(losses(tmp_path / "two")[stopped + 1])


@pytest.mark.quick(2)
@pytest.mark.parametrize("alone", ["locked", "config", "data"])
def test_what_stops_one_process_stops_the_other(
    alone, cache_dir, tmp_path, start_segjax, patience
):
    """Process 0 finds the folder taken; process 1 has another config, or no data."""
    run = tmp_path / "run"
    run.mkdir()
    common = ("--config=configs/unet_em.py:smoke", f"--workdir={run}")
    each = ((f"--cache_dir={cache_dir}",), (f"--cache_dir={cache_dir}",))
    if alone == "config":
        each = (each[0], (*each[1], "--config.seed=1"))
        sentences = ["Process 1 has another config than process 0"] * 2
    elif alone == "data":
        (tmp_path / "file").write_text("")
        each = (each[0], (f"--cache_dir={tmp_path / 'file'}",))
        sentences = [f"Process 1: {tmp_path / 'file'}", f"{tmp_path / 'file'} cannot"]
    else:
        own = f"Another process is working in --workdir={run}"
        sentences = [own, f"Process 0: {own}"]
    holder = workdir_lib.lock(run) if alone == "locked" else contextlib.nullcontext()
    with holder:
        pair = Pair(start_segjax, *common, each=each)
        try:
            codes = pair.communicate(patience)
        finally:
            pair.end()
    assert codes == [1, 1], pair.stderr
    for stderr, sentence in zip(pair.stderr, sentences, strict=True):
        assert f"segjax: {sentence}" in stderr
        assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_log_that_cannot_be_written_any_more_ends_both_processes(
    cache_dir, run_with_a_log, start_segjax, patience
):
    """Process 0 alone writes it, and the other one must not wait for ever."""
    run = run_with_a_log(2**20)
    pair = Pair(
        start_segjax,
        "--config=configs/unet_em.py:smoke",
        "--config.num_steps=1000",
        "--config.eval_every=1000",
        "--config.checkpoint_every=1000",
        f"--workdir={run}",
        f"--cache_dir={cache_dir}",
    )
    most = 2**20 + 1000
    resource.prlimit(pair.processes[0].pid, resource.RLIMIT_FSIZE, (most, most))
    try:
        codes = pair.communicate(patience)
    finally:
        pair.end()
    assert codes == [1, 1], pair.stderr
    assert (
        f"segjax: --workdir={run} cannot be written (File too large)" in pair.stderr[0]
    )
    assert f"segjax: Process 0: --workdir={run} cannot be written" in pair.stderr[1]
    assert all("Traceback" not in stderr for stderr in pair.stderr)
