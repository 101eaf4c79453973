"""A run in an object store on this machine: killed within a save, resumed, measured, used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segjax.errors import UserError
from segjax.remote.copies import to_read, to_write
from segjax.remote.mirror import Mirror
from segjax.remote.store import Store
from segjax.runs.evaluate import evaluate_run
from segjax.runs.predict import predict_run
from segjax.runs.train import train
from segjax.training import loop

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 6

HANGS = """
import pathlib, sys, threading, time
from segjax.remote.store import Store
from segjax.training.checkpoints.checkpoint import Checkpoints

send, save, mark = Store.send, Checkpoints.save, pathlib.Path(sys.argv.pop(1))
sealed = threading.Event()

def hang(self, path, name):
    if name == "checkpoints/4/about/metadata":
        mark.write_text("")
        time.sleep(3600)
    send(self, path, name)
    if name == "checkpoints/2/about/metadata":
        sealed.set()

def wait(self, state, *arguments):
    if state.step == 4:
        sealed.wait()
    elif state.step == 6:
        time.sleep(3600)  # it would take the place of step 2
    save(self, state, *arguments)

Store.send, Checkpoints.save = hang, wait
from segjax.main import run
run()
"""
"""The program, which hangs where a checkpoint has all of its objects but the last."""


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket of moto's server."""
    moto = pytest.importorskip("moto.server", reason="needs moto, a store of objects")
    boto3 = pytest.importorskip("boto3", reason="needs boto3, which comes with moto")
    backends = pytest.importorskip("moto.backends")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs, the extra s3")
    s3fs.S3FileSystem.clear_instance_cache()  # of another server, or another address
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    backends.get_backend("s3").reset()  # they outlive their server
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    server.stop()


def start(*arguments, program=("-m", "segjax.main")):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
        "JAX_NUM_CPU_DEVICES": "4",  # as here: the same sums
    }
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_killed_within_a_save_is_resumed_bit_for_bit(
    bucket, smoke, cache_dir, tmp_path, monkeypatch, patience
):
    run = f"{bucket}/runs/a"
    arguments = (
        "train",
        "--config=unet_em:smoke",
        *(f"--config.num_steps={STEPS}", f"--config.eval_every={STEPS}"),
        *("--config.checkpoint_every=2", f"--cache_dir={cache_dir}"),
        f"--workdir={run}",
    )
    mark = tmp_path / "mark"
    process = start(str(mark), *arguments, program=("-c", HANGS))
    deadline = time.monotonic() + patience
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    process.stderr.close()
    store = Store(run, "--workdir")
    names = {*store.entries()}
    assert "checkpoints/2/about/metadata" in names
    assert "checkpoints/4/about/metadata" not in names
    assert any(name.startswith("checkpoints/4/state/") for name in names)
    assert ".lock/1" in names

    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=patience)
    assert process.returncode == 0, stderr
    assert "Resuming at step 2." in stderr
    assert f"The run lies in {run}." in stderr
    assert f"Report: {run}/report.html" in stderr
    resumed = json.loads(stdout.splitlines()[-1])
    names = {*store.entries()}
    assert {"config.json", "metrics.jsonl", "train.log", "report.html"} <= names
    assert not any(name.startswith(".lock/") for name in names)
    steps = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
    assert steps == {"4", "6"}

    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    smoke.num_steps = smoke.eval_every = STEPS
    smoke.checkpoint_every = 2
    alone = train(smoke, tmp_path / "alone", cache_dir)
    assert resumed["parameters_sha256"] == alone.parameters_sha256


@pytest.mark.slow
def test_a_run_in_a_store_measures_and_predicts_as_one_on_a_disk(
    bucket, smoke, cache_dir, tmp_path, write_run
):
    alone = write_run(tmp_path / "alone", smoke, cache_dir=cache_dir)
    run = f"{bucket}/runs/a"
    Mirror(Store(run, "--workdir"), alone).push()
    found = evaluate_run(run, cache_dir=cache_dir)
    assert found == evaluate_run(alone, cache_dir=cache_dir)

    stack = np.random.default_rng(0).integers(0, 256, (2, 70, 90), np.uint8)
    local = tmp_path / "images"
    local.mkdir()
    tifffile.imwrite(local / "a.tif", stack, photometric="minisblack")
    images = Store(f"{bucket}/images", "--input")
    images.send(local / "a.tif", "a.tif")
    output = f"{bucket}/predicted"
    (path,) = predict_run(run, images.address, output)
    assert str(path) == f"{output}/a.tif"
    (expected,) = predict_run(alone, local, tmp_path / "predicted")
    results = Store(output, "--output")
    assert results.read("a.tif") == expected.read_bytes()
    predict_run(run, images.address, output)  # what is ours is replaced
    results.write("a.tif", b"the user's")
    with pytest.raises(UserError, match=r"predicted/a\.tif would be overwritten"):
        predict_run(run, images.address, output)
    assert results.read("a.tif") == b"the user's"


@pytest.mark.slow
def test_of_two_that_make_an_object_one_is_let(bucket, tmp_path):
    store = Store(f"{bucket}/a", "--workdir")
    assert store.create("x", b"1")
    assert not store.create("x", b"2")
    assert store.read("x") == b"1"


@pytest.mark.slow
def test_without_a_bucket_or_access_a_sentence_comes_in_time(bucket, monkeypatch):
    began = time.monotonic()
    with (
        pytest.raises(UserError, match="--output=s3://nobody/x cannot be written"),
        to_write("s3://nobody/x", "--output"),
    ):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    with (
        pytest.raises(UserError, match="--input=s3://bucket/x cannot be reached"),
        to_read("s3://bucket/x", "--input"),
    ):
        pass
    assert time.monotonic() - began < 60
