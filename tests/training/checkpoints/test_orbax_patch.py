"""A checkpoint that fails half-way leaves nothing running behind."""

import asyncio
import gc
import logging
import os
import resource
import sys
import time

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.training.checkpoints import orbax_patch
from segjax.training.checkpoints.checkpoint import (
    Checkpoints,
    DamagedError,
    abstract_like,
)
from segjax.training.sharding import Devices
from segjax.training.state import TrainState

ARRAYS = 40


def state(shape=(64, 64)):
    """Many arrays: when the first fails, others are still on their way."""
    rng = np.random.default_rng(0)
    params = {f"kernel{i}": rng.random(shape, np.float32) for i in range(ARRAYS)}
    return Devices().put_state(
        TrainState(step=np.int32(1), params=params, batch_stats={}, opt_state=())
    )


@pytest.fixture
def leftovers(monkeypatch):
    """Calls an action a few times; returns what Python and asyncio reported of leftovers."""
    messages = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda found: messages.append(repr(found.exc_value))
    )
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())

    def ask(action):
        for _ in range(5):
            action()
            time.sleep(0.05)
            gc.collect()
        return messages

    logging.getLogger("asyncio").addHandler(handler)
    yield ask
    logging.getLogger("asyncio").removeHandler(handler)


@pytest.fixture
def saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(), {})
        checkpoints.wait()
    return tmp_path


def restore(workdir, shape=(64, 64)):
    abstract = abstract_like(jax.eval_shape(lambda: state(shape)), Devices().replicated)
    with (
        Checkpoints(workdir, read_only=True) as checkpoints,
        pytest.raises(DamagedError),
    ):
        checkpoints.restore(1, abstract)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 100], ids=["empty", "cut"])
def test_a_damaged_checkpoint_leaves_no_reads_behind(saved, leftovers, size):
    for path in saved.rglob("d/*"):
        os.truncate(path, min(size, path.stat().st_size))
    assert leftovers(lambda: restore(saved)) == []


@pytest.mark.slow
def test_a_foreign_checkpoint_leaves_no_reads_behind(saved, leftovers):
    assert leftovers(lambda: restore(saved, (3, 3))) == []


@pytest.mark.slow
def test_a_full_disk_leaves_no_writes_behind(tmp_path, leftovers):
    """A limit on the size of files stands for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = state((256, 256))

    def save(checkpoints):
        checkpoints.save(large, {})
        checkpoints.wait()

    def fail():
        with Checkpoints(tmp_path / str(time.monotonic_ns())) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
            try:
                with pytest.raises(
                    UserError, match=r"\(File too large\); there is none"
                ):
                    save(checkpoints)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert leftovers(fail) == []


def test_all_tasks_end_and_the_first_failure_is_reported():
    ended = []

    async def work(seconds, error=None):
        await asyncio.sleep(seconds)
        ended.append(seconds)
        if error:
            raise error

    async def late():
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().create_task(work(0.02))

    async def together():
        await asyncio.gather(
            work(0.0, OSError("first")), work(0.015, OSError("second")), late()
        )

    with pytest.raises(OSError, match="first"):
        asyncio.run(orbax_patch.to_the_end(together()))
    assert ended == [0.0, 0.015, 0.02]


def test_errors_that_orbax_logs_are_dropped_whatever_the_level_of_absl(caplog):
    orbax_patch.silence_orbax()
    absl = logging.getLogger("absl")
    for path, shown in (("/lib/orbax/checkpoint/future.py", 0), ("/lib/jax/a.py", 1)):
        absl.setLevel(logging.ERROR)
        absl.handle(absl.makeRecord("absl", logging.ERROR, path, 1, "x", (), None))
        assert len(caplog.records) == shown
