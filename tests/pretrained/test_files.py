"""Files of weights: what is read, what is refused, and that nothing is unpickled."""

import io
import json
import os
import struct
import time
import tracemalloc
import warnings
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from segjax.errors import UserError
from segjax.pretrained.files import (
    file_sha256,
    from_safetensors,
    read_state,
    to_safetensors,
)

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


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 99, b"PK\x03\x04" + b"\0" * 40])
def test_damaged_files_are_one_sentence(suffix, content, tmp_path):
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
        with pytest.raises(UserError, match="is not a whole"):
            read_state(path)


def npy(shape, *, dtype="'<f4'", data=b"", literal=None) -> bytes:
    """An array whose header says what it likes."""
    text = literal or f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}"
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + data


def archive(*members, compression=zipfile.ZIP_STORED) -> bytes:
    """A zip archive of pairs of name and content."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as file:
        warnings.simplefilter("ignore")  # of names that are there already
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """Sets the flags of the first member that say that it is encrypted."""
    place = content.rindex(b"PK\x01\x02") + 8
    flags = bytes([content[place] | 1])
    return content[:6] + flags + content[7:place] + flags + content[place + 1 :]


def tensors(header, data=b"", length=None) -> bytes:
    """A safetensors file with that header, JSON or an object."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


F4 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
ONE = npy("(1,)", data=bytes(4))
HOSTILE = {
    "10^12 floats": (".npz", archive(("a.npy", npy("(1000000, 1000000)")))),
    "an overflow": (".npz", archive(("a.npy", npy(f"({2**62}, 4)")))),
    "a negative size": (".npz", archive(("a.npy", npy("(-1, -1)", data=bytes(4))))),
    "an object": (".npz", archive(("a.npy", npy("(1,)", dtype="'|O'", data=b"N.")))),
    "a record": (
        ".npz",
        archive(("a.npy", npy("(1,)", dtype="[('x', '<f4')]", data=bytes(4)))),
    ),
    "text": (".npz", archive(("a.npy", npy("(1,)", dtype="'<U1'", data=bytes(4))))),
    "a nested header": (
        ".npz",
        archive(("a.npy", npy("", literal="(" * 4000 + ")" * 4000))),
    ),
    "signs in a header": (".npz", archive(("a.npy", npy("", literal="-" * 9000)))),
    "a long header": (".npz", archive(("a.npy", npy("", literal=" " * 10**6)))),
    "too little data": (".npz", archive(("a.npy", npy("(9,)", data=bytes(4))))),
    "too much data": (".npz", archive(("a.npy", npy("(1,)", data=bytes(99))))),
    "a name twice": (".npz", archive(("a.npy", ONE), ("a.npy", ONE))),
    "no array": (".npz", archive(("a.txt", b"text"))),
    "an encrypted member": (".npz", encrypted(archive(("a.npy", ONE)))),
    "a bomb": (
        ".npz",
        archive(
            *((f"{i}.npy", npy(f"({2**25},)", data=bytes(1 << 27))) for i in range(4)),
            compression=zipfile.ZIP_DEFLATED,
        ),
    ),
    "a header of 10^18 bytes": (".safetensors", tensors({"a": F4}, length=10**18)),
    "10^12 floats of none": (
        ".safetensors",
        tensors({"a": {**F4, "shape": [10**6, 10**6]}}, bytes(4)),
    ),
    "data beyond the end": (
        ".safetensors",
        tensors({"a": {**F4, "data_offsets": [0, 400]}}, bytes(4)),
    ),
    "a name twice in JSON": (
        ".safetensors",
        tensors(b'{"a": %s, "a": %s}' % ((json.dumps(F4).encode(),) * 2), bytes(4)),
    ),
    "nested JSON": (".safetensors", tensors(b"[" * 99_999)),
    "no JSON": (".safetensors", tensors(b"\xff\xfe{}")),
    "an unknown kind": (
        ".safetensors",
        tensors({"a": {**F4, "dtype": "F4"}}, bytes(4)),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_sentence_and_take_no_memory(name, tmp_path):
    suffix, content = HOSTILE[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_state(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < (1 << 25)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_each_flipped_byte_is_a_sentence_or_other_values(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **STATE)
    else:
        safetensors.numpy.save_file(STATE, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_state(path)
        except UserError:
            refused += 1
    assert refused > len(whole) / 10


def test_bfloat16_in_npz_is_reported_and_float32_is_read(tmp_path):
    array = np.asarray(jnp.ones(3, jnp.bfloat16))
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(UserError, match=r"V2 values in a\.npy.*array as float32"):
        read_state(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=array.astype(np.float32))
    equal(read_state(tmp_path / "a.npz"), {"a": np.ones(3, np.float32)})


def test_an_array_that_packs_well_is_read(tmp_path):
    zeros = {"a": np.zeros(10**7, np.float32)}
    np.savez_compressed(tmp_path / "a.npz", **zeros)
    equal(read_state(tmp_path / "a.npz"), zeros)


def test_an_archive_that_packs_too_well_is_answered_with_a_way_that_works(tmp_path):
    zeros = {"a": np.zeros(70_000_000, np.float32)}
    np.savez_compressed(tmp_path / "a.npz", **zeros)
    sentence = r"unpacks to 280,000,1\d\d bytes, .* Save it with np\.savez, which"
    with pytest.raises(UserError, match=sentence):
        read_state(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **zeros)
    assert read_state(tmp_path / "a.npz")["a"].shape == (70_000_000,)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".pt"])
def test_a_pointer_of_git_lfs_is_named(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(UserError, match=r"is a git-LFS pointer.*git lfs pull"):
        read_state(path)


def test_a_name_twice_among_many_is_found_at_once(tmp_path):
    names = [f"layer{i}.weight" for i in range(20_000)]
    listed = ",".join(f'"{name}": 0' for name in [*names, names[-1]])
    (tmp_path / "a.safetensors").write_bytes(tensors(b"{%s}" % listed.encode()))
    start = time.process_time()
    with pytest.raises(UserError, match=r'holds "layer19999\.weight" twice'):
        read_state(tmp_path / "a.safetensors")
    assert time.process_time() - start < 1  # ten where each name is counted


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_a_pipe_is_not_waited_for(suffix, tmp_path):
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(UserError, match="is not a regular file"):
        read_state(tmp_path / f"a{suffix}")


def test_what_is_not_a_file_of_weights_is_reported(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_state(tmp_path / "none.npz")
    with pytest.raises(UserError, match="is a folder"):
        read_state(tmp_path)
    (tmp_path / "a.caffemodel").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"ending in \.safetensors, \.npz, \.tflite, \.pth, \.pt"
    ):
        read_state(tmp_path / "a.caffemodel")
    safetensors.numpy.save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds no tensors"):
        read_state(tmp_path / "a.safetensors")


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint64", "bool"]
)
def test_bytes_of_safetensors_hold_every_type_and_layout(dtype):
    plain = np.arange(6).reshape(2, 3).astype(jnp.dtype(dtype))
    arrays = {"a": plain, "turned": plain.T, "one": plain[0, 1, None].reshape(())}
    found = from_safetensors(to_safetensors(arrays), "weights")
    equal(found, arrays)
    assert {x.dtype for x in found.values()} == {jnp.dtype(dtype)}
    with pytest.raises(UserError, match="weights is not a whole safetensors file"):
        from_safetensors(to_safetensors(arrays)[:-1], "weights")
