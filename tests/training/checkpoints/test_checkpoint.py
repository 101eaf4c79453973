"""Checkpoints: what is kept, what is logged, what is refused."""

import errno
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.training.checkpoints import checkpoint
from segjax.training.checkpoints.checkpoint import (
    Checkpoints,
    DamagedError,
    abstract_like,
)
from segjax.training.checkpoints.checkpoint_files import steps_on_disk
from segjax.training.divergence import LossRange
from segjax.training.sharding import Devices
from segjax.training.state import TrainState, parameters_sha256, tree_sha256

ABOUT = {"config": {"seed": 0}, "channels": 1}


def state_at(step):
    devices = Devices()
    return devices.put_state(
        TrainState(
            step=np.int32(step),
            params={"kernel": np.full((2, 3), step, np.float32)},
            batch_stats={},
            opt_state=({"moment": np.full(3, -step, np.float32)},),
        )
    )


@pytest.fixture
def abstract():
    return abstract_like(jax.eval_shape(lambda: state_at(0)), Devices().replicated)


def kept_after(workdir, scores):
    """Saves at steps 1, 2, ... with these metrics; returns the steps that are left."""
    with Checkpoints(workdir, "mean_iou") as checkpoints:
        for step, score in enumerate(scores, 1):
            metrics = None if score is None else {"mean_iou": score}
            checkpoints.save(state_at(step), ABOUT, metrics)
        checkpoints.wait()
        return checkpoints.steps(), checkpoints.best_step()


@pytest.mark.parametrize(
    ("scores", "kept", "best"),
    [
        ([None, None, None, None], [4, 3], None),
        ([0.1, 0.9, 0.3, 0.4, 0.5], [5, 4, 2], 2),
        ([0.1, None, 0.9, None, None, 0.2], [6, 5, 3], 3),
        ([0.1, 0.2, 0.3], [3, 2], 3),
    ],
)
def test_the_latest_two_and_the_best_are_kept(tmp_path, scores, kept, best):
    steps, found = kept_after(tmp_path, scores)
    assert steps == kept
    assert found == best


def test_what_was_saved_comes_back(tmp_path, abstract):
    kept_after(tmp_path, [None, None])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        state, about = checkpoints.restore_newest(abstract)
        assert checkpoints.newest_about() == about
    jax.tree.map(np.testing.assert_array_equal, state, state_at(2))
    assert about["step"] == 2
    assert about["channels"] == 1
    assert about["parameters_sha256"] == parameters_sha256(state.params)


def test_the_arrays_may_be_overwritten_once_save_returns(tmp_path, abstract):
    state = state_at(1)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, ABOUT)
        jax.block_until_ready(change(state))
        checkpoints.wait()
        restored, _ = checkpoints.restore_newest(abstract)
    jax.tree.map(np.testing.assert_array_equal, restored, state_at(1))


def test_nothing_to_load_is_reported(tmp_path, abstract):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="There is no checkpoint"),
    ):
        checkpoints.restore_newest(abstract)


def test_what_is_newer_is_set_aside_and_can_be_saved_anew(tmp_path, abstract):
    kept_after(tmp_path, [0.9, 0.1, 0.2])
    with Checkpoints(tmp_path, "mean_iou") as checkpoints:
        for _ in range(2):
            checkpoints.set_aside_after(2)
            assert checkpoints.steps() == [2, 1]
            checkpoints.save(state_at(3), ABOUT, {"mean_iou": 0.3})
            checkpoints.wait()
        assert checkpoints.steps() == [3, 2, 1]
        assert checkpoints.best_step() == 1
    aside = sorted(path.name for path in tmp_path.glob("damaged-*"))
    assert aside == ["damaged-3-1", "damaged-3-2"]
    (tmp_path / "damaged-3-1").rename(tmp_path / "checkpoints" / "4")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert int(checkpoints.restore(4, abstract)[0].step) == 3


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), UserError, "Permission"),
        (OSError(errno.EIO, "Input/output error"), UserError, "Nothing was changed"),
        (ValueError("RESOURCE_EXHAUSTED: memory"), UserError, "cannot be read"),
        (MemoryError("too large"), MemoryError, "too large"),
        (ValueError("no such array"), DamagedError, "wrapped"),
    ],
)
def test_errors_that_may_pass_are_no_damage(
    tmp_path, abstract, monkeypatch, error, kind, sentence
):
    kept_after(tmp_path, [None, None])
    with Checkpoints(tmp_path) as checkpoints:

        def fail(*_, **__):
            raise error if kind is MemoryError else RuntimeError("wrapped") from error

        monkeypatch.setattr(checkpoints._manager, "restore", fail)
        with pytest.raises(kind, match=sentence):
            checkpoints.restore(2, abstract)


def test_a_file_that_cannot_be_read_now_is_no_damage(tmp_path, abstract, monkeypatch):
    """TensorStore's words do not matter: the files are tried."""
    kept_after(tmp_path, [None])
    read = Path.read_bytes

    def locked(path):
        if path.name == "metadata":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    with Checkpoints(tmp_path) as checkpoints:

        def fail(*_, **__):
            raise ValueError("some words")

        monkeypatch.setattr(checkpoints._manager, "restore", fail)
        monkeypatch.setattr(Path, "read_bytes", locked)
        with pytest.raises(UserError, match="Permission denied"):
            checkpoints.restore(1, abstract)
        with pytest.raises(UserError, match="Permission denied"):
            checkpoints.newest_about()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"a":' * 9999, b"\xff"])
def test_a_damaged_checkpoint_hides_no_other(tmp_path, abstract, content, caplog):
    kept_after(tmp_path, [0.9, 0.1, 0.2])
    (tmp_path / "checkpoints/3/about/metadata").write_bytes(content)
    with Checkpoints(tmp_path, "mean_iou", read_only=True) as checkpoints:
        assert checkpoints.steps() == [3, 2, 1]
        assert checkpoints.best_step() == 1
        assert checkpoints.newest_about()["step"] == 2
        assert int(checkpoints.restore_newest(abstract)[0].step) == 2
    assert "checkpoint of step 3" in caplog.text
    assert "is damaged (what it says of itself has changed)" in caplog.text


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), UserError("changed")]
)
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_deleted(
    tmp_path, monkeypatch, error
):
    """Its metrics are read again at the next save, and it may be the best."""
    kept_after(tmp_path, [0.9, 0.5, 0.4])
    read, failing = checkpoint.read_about, [error]

    def read_about(folder):
        if folder.name == "1" and failing:
            raise failing.pop()
        return read(folder)

    monkeypatch.setattr(checkpoint, "read_about", read_about)
    with Checkpoints(tmp_path, "mean_iou") as checkpoints:
        checkpoints.save(state_at(4), ABOUT, {"mean_iou": 0.3})
        checkpoints.wait()
        assert not failing
        assert 1 in checkpoints.steps()
        checkpoints.save(state_at(5), ABOUT, {"mean_iou": 0.2})
        checkpoints.wait()
        assert checkpoints.steps() == [5, 4, 1]
        assert checkpoints.best_step() == 1


def test_the_best_is_not_chosen_while_one_cannot_be_read(tmp_path, monkeypatch):
    kept_after(tmp_path, [0.9, 0.5, 0.4])
    read = checkpoint.read_about

    def read_about(folder):
        if folder.name == "1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(folder)

    with Checkpoints(tmp_path, "mean_iou", read_only=True) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "read_about", read_about)
            with pytest.raises(UserError, match=r"step 1 .*\(Permission denied\)"):
                checkpoints.best_step()
        assert checkpoints.best_step() == 1


def test_a_step_without_a_checkpoint_is_not_called_damaged(tmp_path, abstract):
    kept_after(tmp_path, [None, None])
    with (
        Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(UserError, match=r"no checkpoint of step 7 in .* of 2, 1\. "),
    ):
        checkpoints.restore(7, abstract)


@pytest.mark.parametrize("name", ["about/metadata", "state/_METADATA"])
def test_a_checkpoint_with_a_pipe_in_it_is_damaged_and_waited_for_by_nobody(
    tmp_path, abstract, name
):
    kept_after(tmp_path, [0.1, 0.2])
    path = tmp_path / "checkpoints/2" / name
    path.unlink()
    os.mkfifo(path)
    with Checkpoints(tmp_path, "mean_iou", read_only=True) as checkpoints:
        assert checkpoints.best_step() == 1
        assert int(checkpoints.restore_newest(abstract)[0].step) == 1


def test_stray_files_among_the_checkpoints_hide_none(tmp_path, abstract):
    kept_after(tmp_path, [None, None])
    for name in ("3", "x", "1²", "007", "4.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).write_bytes(b"{}")
    (tmp_path / "checkpoints" / "9").mkdir()
    assert steps_on_disk(tmp_path)[-2:] == [2, 1]
    with Checkpoints(tmp_path) as checkpoints:
        state, _ = checkpoints.restore_newest(abstract)
        assert int(state.step) == 2
        checkpoints.set_aside_after(2)
        checkpoints.save(state_at(3), ABOUT)
        checkpoints.wait()
        assert checkpoints.steps() == [3, 2]


def test_the_newest_checkpoint_in_range_is_that_of_before_the_loss_rose(tmp_path):
    losses = LossRange()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest_in_range() is None
        for step, loss in enumerate((0.75, 0.5, 40.0), 1):
            checkpoints.save(state_at(step), {**ABOUT, "loss": losses.add(loss)})
        checkpoints.wait()
        assert checkpoints.newest_in_range() == tmp_path / "checkpoints/2"
        (tmp_path / "checkpoints/2/about/metadata").write_bytes(b"")
        assert checkpoints.newest_in_range() is None


def test_a_disk_that_fills_up_is_a_sentence(tmp_path, monkeypatch):
    kept_after(tmp_path, [None])
    with Checkpoints(tmp_path) as checkpoints:

        def fail(*_, **__):
            raise ValueError(
                "INTERNAL: x: No space left on device [os_error_code='28']"
            )

        monkeypatch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(UserError) as caught:
            checkpoints.save(state_at(2), ABOUT)
    assert "(No space left on device)" in str(caught.value)
    assert "the newest there is of step 1" in str(caught.value)


def test_an_error_marks_the_best_where_it_is_lowest(tmp_path):
    with Checkpoints(tmp_path, "rand_error") as checkpoints:
        for step, value in enumerate((0.5, 0.2, 0.4, 0.9, 0.8), 1):
            checkpoints.save(state_at(step), ABOUT, {"rand_error": value})
        checkpoints.wait()
        assert checkpoints.best_step() == 2
        assert checkpoints.steps() == [5, 4, 2]


def test_hashes_depend_on_names_shapes_dtypes_and_values():
    a = jnp.arange(6, dtype=jnp.float32)
    trees = [
        {"a": a},
        {"b": a},
        {"a": a.reshape(2, 3)},
        {"a": a.astype(jnp.int32)},
        {"a": a.at[0].set(-0.0)},
        {"a": a, "b": a},
    ]
    assert len({tree_sha256(tree) for tree in trees}) == len(trees)
    assert tree_sha256({"a": a, "b": a}) == tree_sha256({"b": a, "a": np.asarray(a)})


def test_a_moving_average_is_saved_and_one_that_is_not_there_is_missed(
    tmp_path, abstract
):
    average = {"params": {"kernel": np.ones((2, 3), np.float32)}, "batch_stats": {}}
    averaged = state_at(2).replace(ema=average | {"count": np.int32(2)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(1), ABOUT)
        checkpoints.save(averaged, ABOUT | {"config": {"ema": {"decay": 0.9}}})
        checkpoints.wait()
        wanted = abstract.replace(
            ema=abstract_like(averaged.ema, abstract.step.sharding)
        )
        state, about = checkpoints.restore(2, wanted)
        jax.tree.map(np.testing.assert_array_equal, state, averaged)
        assert about["parameters_sha256"] == parameters_sha256(average["params"])
        unknown, _ = checkpoints.restore(2, abstract.replace(opt_state=None))
        assert (unknown.evaluated()["params"]["kernel"] == 1).all()
        with pytest.raises(
            UserError, match=r"has no moving average, and the config has a"
        ):
            checkpoints.restore(1, wanted)
        with pytest.raises(
            UserError, match=r"has a moving average, and the config has no"
        ):
            checkpoints.restore(2, abstract)
