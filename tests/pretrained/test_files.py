"""Files of weights: what is read, what is refused, and that nothing is unpickled."""

import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from segjax.pretrained.files import file_sha256, read_state
from segjax.types import UserError

STATE = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1),
    "bn.num_batches_tracked": np.array(7),
}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_safetensors_and_npz_are_read(tmp_path):
    safetensors.numpy.save_file(STATE, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **STATE)
    for name in ("a.safetensors", "a.npz"):
        equal(read_state(tmp_path / name), STATE)


def test_half_precision_is_read(tmp_path):
    state = {"a": np.array([1.5, -2], np.float16), "b": jnp.array([0.5], jnp.bfloat16)}
    arrays = {name: np.asarray(x) for name, x in state.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    found = read_state(tmp_path / "a.safetensors")
    assert {str(x.dtype) for x in found.values()} == {"float16", "bfloat16"}
    assert found["b"].astype(np.float32) == 0.5


def test_the_prefix_of_a_parallel_run_is_taken_off(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"module.{k}": v for k, v in STATE.items()})
    equal(read_state(tmp_path / "a.npz"), STATE)
    np.savez(tmp_path / "b.npz", other=np.ones(1), **{"module.a": np.ones(1)})
    assert read_state(tmp_path / "b.npz").keys() == {"module.a", "other"}


class Dangerous:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_objects_in_npz_are_not_unpickled(tmp_path):
    array = np.array([Dangerous(tmp_path / "ran")], object)
    np.savez(tmp_path / "a.npz", weight=array)
    with pytest.raises(UserError, match=r"would have to be unpickled.*np\.savez"):
        read_state(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_objects_in_pth_are_not_unpickled(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": Dangerous(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        read_state(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Dangerous(tmp_path / "ran"), 2))
    with pytest.raises(UserError, match="holds more than tensors"):
        read_state(tmp_path / "b.pth")
    assert not (tmp_path / "ran").exists()


def test_pth_is_read_where_pytorch_is_installed(tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(x) for name, x in STATE.items()}
    torch.save(state, tmp_path / "a.pth")
    equal(read_state(tmp_path / "a.pth"), STATE)
    torch.save({"model": state, "epoch": 3}, tmp_path / "b.pth")
    equal(read_state(tmp_path / "b.pth"), STATE)
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "c.pt")
    equal(read_state(tmp_path / "c.pt"), {"a": np.ones(2, np.float32)})
    torch.save({"a": torch.ones(2), "epoch": 3}, tmp_path / "d.pth")
    with pytest.raises(UserError, match='holds int under "epoch", not a tensor'):
        read_state(tmp_path / "d.pth")
    torch.save([torch.ones(2)], tmp_path / "e.pth")
    with pytest.raises(UserError, match="holds list, not tensors by name"):
        read_state(tmp_path / "e.pth")


def test_pth_without_pytorch_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.serialization", None)
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"which is not installed.*safetensors"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 99, b"PK\x03\x04" + b"\0" * 40])
def test_damaged_files_are_one_sentence(suffix, content, tmp_path):
    if suffix == ".pth":
        pytest.importorskip("torch")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_state(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_one_sentence(tmp_path):
    for suffix in (".safetensors", ".npz"):
        path = tmp_path / f"a{suffix}"
        if suffix == ".npz":
            np.savez(path, **STATE)
        else:
            safetensors.numpy.save_file(STATE, path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UserError, match="is no whole"):
            read_state(path)


def test_what_is_no_file_of_weights_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_state(tmp_path / "none.npz")
    with pytest.raises(UserError, match="is a folder"):
        read_state(tmp_path)
    (tmp_path / "a.caffemodel").write_bytes(b"x")
    with pytest.raises(UserError, match=r"ending in \.safetensors, \.npz, \.pth, \.pt"):
        read_state(tmp_path / "a.caffemodel")
    safetensors.numpy.save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds no tensors"):
        read_state(tmp_path / "a.safetensors")


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
