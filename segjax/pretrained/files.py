"""Files of weights: safetensors, NumPy's .npz, TensorFlow Lite's, and PyTorch's .pth.

Nothing is unpickled here. A .pth file is a pickle, which code of our own reads
(`segjax.pretrained.pickles`): it makes tensors and containers, and calls nothing. What
files claim to hold is compared with their size before room is made for it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from segjax.errors import UserError
from segjax.pretrained.npz import (
    KindError,
    ObjectsError,
    PackedError,
    read_npz,
)
from segjax.pretrained.pth import read_pth
from segjax.pretrained.pth_tensors import NotTensorsError
from segjax.text_files import require_content

POINTER_START = 64
"""Bytes of a file that show whether it is a git-LFS pointer."""

LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header; its library takes no longer one."""


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Reads named tensors from a file.

    The weights of a training script's checkpoint are found under "model" or
    "state_dict". Names are as in the file; `segjax.pretrained.load` knows the prefixes
    that wrappers put before them.

    Args:
      path: a file ending in .safetensors, .npz, .tflite, .pth, .pt or .bin, which is what
        Hugging Face calls a file of PyTorch.

    Returns:
      Arrays by name, bfloat16 as such; those of a file of PyTorch are read-only.

    Raises:
      UserError: if the file is missing, damaged, or of another kind, a git-LFS pointer
        for one, or holds anything but named arrays.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file {path}. Check the path.")
    if path.suffix.lower() not in READERS or not path.is_file():
        what = "not a file of weights by its ending"
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
        raise UserError(
            f"{path} is {what}. Give a file ending in {', '.join(READERS)}."
        )
    try:
        with path.open("rb") as file:
            require_content(file.read(POINTER_START), path)
        found = READERS[path.suffix.lower()](path)
    except UserError:
        raise
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise UserError(f"{path} cannot be read ({reason}).") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into this machine's memory.") from error
    state = {str(name): _array(path, name, value) for name, value in found.items()}
    if not state:
        raise UserError(f"{path} holds no tensors.")
    return state


def from_safetensors(raw: bytes, where: str | Path) -> dict[str, np.ndarray]:
    """Reads named tensors from the bytes of a safetensors file.

    Args:
      raw: the bytes.
      where: what holds them, for the message.

    Returns:
      Arrays by name, read-only.

    Raises:
      UserError: they are damaged.
    """
    try:
        _require_names_once(io.BytesIO(raw), len(raw))
        return {
            name: np.frombuffer(x["data"], _dtype(x["dtype"])).reshape(x["shape"])
            for name, x in safetensors.deserialize(raw)
        }
    except MemoryError:
        raise
    except Exception as error:  # of its own kind, and what NumPy says to its values
        raise _damaged(where, "safetensors file", error) from error


def _dtype(code: str) -> np.dtype:
    """The type of a safetensors code; its library's reader of bytes knows no bfloat16."""
    kinds = {"BF16": "bfloat16", "BOOL": "bool"}
    return jnp.dtype(
        kinds.get(code) or {"F": "float", "I": "int", "U": "uint"}[code[0]] + code[1:]
    )


def to_safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Writes named arrays as the bytes of a safetensors file, in the order of names."""
    contiguous = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    return safetensors.numpy.save(contiguous)


def file_sha256(path: str | Path) -> str:
    """Hashes the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    # NumPy knows bfloat16 by name once JAX is there.
    assert jnp.bfloat16.dtype
    try:
        with path.open("rb") as file:
            _require_names_once(file, path.stat().st_size)
        return safetensors.numpy.load_file(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of its own kind, and what NumPy says to its values
        raise _damaged(path, "safetensors file", error) from error


def _require_names_once(file: IO[bytes], size: int) -> None:
    """Reads the names in a header: the library takes one of several that are alike."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen:
                raise ValueError(f'it holds "{name}" twice')
            seen[name] = value
        return seen

    length = int.from_bytes(file.read(8), "little")
    if length > min(size, LONGEST_HEADER):
        raise ValueError(f"its header claims {length:,} bytes")
    json.loads(file.read(length), object_pairs_hook=once)


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return read_npz(path)
    except ObjectsError as error:
        raise UserError(
            f"{path} holds Python objects, which would have to be unpickled; segjax "
            "does not do that. Save it with np.savez(file, **arrays), one plain array "
            "a name."
        ) from error
    except PackedError as error:
        raise UserError(
            f"{path} {error}. Save it with np.savez, which does not pack."
        ) from error
    except KindError as error:
        raise UserError(
            f"{path} holds {error}, not numbers. Save each array as float32; a .npz file "
            "has no bfloat16."
        ) from error
    except OSError:
        raise
    except Exception as error:  # zip archives and headers raise many kinds
        raise _damaged(path, ".npz file", error) from error


def _pth(path: Path) -> Mapping[str, Any]:
    try:
        return read_pth(path)
    except (OSError, MemoryError):
        raise
    except NotTensorsError as error:
        raise UserError(
            f"{path} holds more than plain tensors ({_first_line(error)}), which segjax "
            "does not load, as it would have to run what is in it. Save "
            "model.state_dict() alone."
        ) from error
    except Exception as error:  # zip archives and arrays raise many kinds
        raise _damaged(path, "file of PyTorch", error) from error


def _tflite(path: Path) -> Mapping[str, np.ndarray]:
    from segjax.pretrained.tflite_networks import read_tflite  # it knows the networks

    return read_tflite(path)


READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".tflite": _tflite,
    ".pth": _pth,
    ".pt": _pth,
    ".bin": _pth,
}
"""The readers of files, by ending."""


def _array(path: Path, name: Any, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise UserError(
            f'{path} holds {type(value).__name__} under "{name}", not a tensor. Save '
            "model.state_dict() alone."
        )
    return value


def _damaged(path: str | Path, kind: str, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a whole {kind} ({_first_line(error)}). Copy or download it again."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100].rstrip(" .:")
