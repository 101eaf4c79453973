"""Files of PyTorch, .pth and .pt, read without PyTorch and without unpickling.

There are two forms. Since PyTorch 1.6 a file is a zip archive: `data.pkl` describes the
tensors, and `data/KEY` holds the numbers of each storage. Before, it was four pickles (a
magic number, a version, the machine, the tensors), the keys of the storages, and their
numbers one after the other. `pickles.read_pickle` reads the pickles.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from segjax.pretrained.npz import check_claim
from segjax.pretrained.pickles import read_pickle
from segjax.pretrained.pth_tensors import NOWHERE, NotTensorsError, Storage, Tensor

ENVELOPES = ("model", "state_dict", "model_state_dict")
"""Training scripts keep the weights under one of these keys, beside the optimizer."""

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_PICKLE = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
"""How the files of the two forms begin."""

TAR = (b"ustar", 257)
"""What a tar archive has, and where."""

VERSION = 1001
"""Of the older form."""

MOST_MEMBERS = 100_000
LARGEST_PICKLE = 1 << 25

Numbers = Callable[[Storage], np.ndarray]
"""Reads the numbers of a storage."""


def read_pth(path: Path) -> dict[str, Any]:
    """Reads the named tensors of a file of PyTorch.

    The weights of a training script's checkpoint are found under "model" or "state_dict".

    Args:
      path: the file.

    Returns:
      Read-only arrays by name, and what else there is among the tensors.

    Raises:
      NotTensorsError: if it holds more than tensors.
      Exception: of any kind, for a file that is damaged or claims what cannot be.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC_PICKLE))
        file.seek(0)
        if start.startswith(ZIP):
            with zipfile.ZipFile(file) as archive:
                return _arrays(path, *_read_zip(archive, path.stat().st_size))
        if start == MAGIC_PICKLE:
            return _arrays(path, *_read_older(path, file))
        if file.read(TAR[1] + len(TAR[0])).endswith(TAR[0]):
            raise ValueError("it is of the oldest form, a tar archive of 2016")
    raise ValueError("it begins as neither form of such files does")


def _arrays(path: Path, found: Any, numbers: Numbers) -> dict[str, Any]:
    """Gives the tensors of a state dict their numbers; tensors may share them."""
    for key in ENVELOPES:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or any(type(x) is not str for x in found):
        raise NotTensorsError(f"{type(found).__name__}, not tensors by name")
    views = {
        k: x
        for k, x in found.items()
        if isinstance(x, Tensor) and x.storage is not NOWHERE
    }
    check_claim(
        sum(_bytes_of(x.storage, math.prod(x.shape)) for x in views.values()), path
    )
    read: dict[Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in views.items():
        if tensor.storage not in read:
            read[tensor.storage] = numbers(tensor.storage)
        flat = read[tensor.storage]
        if flat.size != tensor.storage.size:
            raise ValueError("it has changed meanwhile")
        arrays[name] = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :],
            tensor.shape,
            tuple(stride * flat.itemsize for stride in tensor.strides),
            writeable=False,
        )
    return {name: arrays.get(name, x) for name, x in found.items()}


def _dtype(storage: Storage) -> np.dtype:
    return jnp.dtype(storage.dtype)  # NumPy alone knows no bfloat16


def _bytes_of(storage: Storage, count: int | None = None) -> int:
    """The size of its numbers, or of so many of them."""
    return (storage.size if count is None else count) * _dtype(storage).itemsize


def _read_zip(archive: zipfile.ZipFile, size: int) -> tuple[Any, Numbers]:
    """Reads the description of the tensors in an archive, and how to get their numbers."""
    members = {member.filename: member for member in archive.infolist()}
    if len(members) != len(archive.infolist()) or len(members) > MOST_MEMBERS:
        raise ValueError("it has two members of one name, or too many members")
    for name, member in members.items():
        if member.flag_bits & 0x1:
            raise ValueError(f"its {name} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its {name} is compressed, which PyTorch never does")
        if member.compress_size != member.file_size:
            raise ValueError(f"its {name} has two sizes")
    if sum(member.file_size for member in members.values()) > size:
        raise ValueError("its members are larger than it")
    pickles = [name for name in members if name.count("/") == 1]
    pickles = [name for name in pickles if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it has no data.pkl, or several")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in members:
        raise NotTensorsError("a program of TorchScript")
    order = members.get(f"{prefix}byteorder")
    if order is not None and (order.file_size > 6 or archive.read(order) != b"little"):
        raise ValueError("its numbers are big-endian")
    if members[pickles[0]].file_size > LARGEST_PICKLE:
        raise ValueError("its data.pkl is larger than tensors make it")

    def numbers(storage: Storage) -> np.ndarray:
        name = f"{prefix}data/{storage.key}"
        if name not in members:
            raise ValueError(f"it has no {name}")
        if members[name].file_size != _bytes_of(storage):
            raise ValueError(
                f"its {name} has {members[name].file_size:,} bytes, where "
                f"{_bytes_of(storage):,} belong"
            )
        return np.frombuffer(archive.read(name), _dtype(storage))

    with archive.open(pickles[0]) as file:
        found, _ = read_pickle(file)
        if file.read(1):  # at its end, the archive compares the checksum
            raise ValueError("its data.pkl holds more than one pickle")
    return found, numbers


def _read_older(path: Path, file: IO[bytes]) -> tuple[Any, Numbers]:
    """Reads the pickles of the older form, and finds the numbers behind them."""
    size = path.stat().st_size
    magic, version, machine = (read_pickle(file)[0] for _ in range(3))
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("it is of a version that is not known")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    found, storages = read_pickle(file)
    keys, _ = read_pickle(file)
    texts = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not texts or sorted(keys) != sorted(storages):
        raise ValueError("its list of storages is not that of its tensors")
    places = {}
    for key in keys:
        if int.from_bytes(file.read(8), "little") != storages[key].size:
            raise ValueError(f"its storage {key} has another size than its tensors say")
        places[key] = file.tell()
        file.seek(_bytes_of(storages[key]), 1)
    if file.tell() != size:
        raise ValueError(f"it has {size:,} bytes, where {file.tell():,} belong")

    def numbers(storage: Storage) -> np.ndarray:
        with path.open("rb") as again:
            again.seek(places[storage.key])
            return np.frombuffer(again.read(_bytes_of(storage)), _dtype(storage))

    return found, numbers
