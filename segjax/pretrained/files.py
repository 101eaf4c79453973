"""Files of weights: safetensors, NumPy's .npz, and PyTorch's where PyTorch is installed.

Nothing is unpickled here. A .pth file is a pickle, so it is left to PyTorch's own reader,
which with `weights_only=True` makes tensors and containers and calls nothing else.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from segjax.types import UserError

ENVELOPES = ("model", "state_dict", "model_state_dict")
"""Training scripts keep the weights under one of these keys, beside the optimizer."""

PARALLEL = "module."
"""What `DistributedDataParallel` puts before every name."""


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Reads named tensors from a file.

    The weights of a training script's checkpoint are found under "model" or
    "state_dict"; the prefix "module." of a parallel run is taken off.

    Args:
      path: a file ending in .safetensors, .npz, .pth or .pt.

    Returns:
      Arrays by name, bfloat16 as such.

    Raises:
      UserError: if the file is missing, damaged, or of another kind, holds anything but
        named arrays, or needs a PyTorch that is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file {path}. Check the path.")
    if path.suffix.lower() not in READERS or path.is_dir():
        what = "a folder" if path.is_dir() else "no file of weights by its ending"
        raise UserError(
            f"{path} is {what}. Give a file ending in {', '.join(READERS)}."
        )
    try:
        found = READERS[path.suffix.lower()](path)
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise UserError(f"{path} cannot be read ({reason}).") from error
    state = {str(name): _array(path, name, value) for name, value in found.items()}
    if not state:
        raise UserError(f"{path} holds no tensors.")
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): x for name, x in state.items()}
    return state


def file_sha256(path: str | Path) -> str:
    """Hashes the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    # NumPy knows bfloat16 by name once JAX is there.
    assert jnp.bfloat16.dtype
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise _damaged(path, "safetensors file", error) from error


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise _damaged(path, ".npz file", ValueError("it is no zip archive"))
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if "Object arrays" in str(error):
            raise UserError(
                f"{path} holds Python objects, which would have to be unpickled; segjax "
                "does not do that. Save it with np.savez(file, **arrays), one plain array "
                "a name."
            ) from error
        raise _damaged(path, ".npz file", error) from error


def _pth(path: Path) -> Mapping[str, Any]:
    try:
        load = importlib.import_module("torch.serialization").load
    except ImportError as error:
        raise UserError(
            f"{path} is a file of PyTorch, which is not installed: install it (pip "
            "install torch), or save the weights elsewhere with "
            'safetensors.torch.save_file(state_dict, "weights.safetensors").'
        ) from error
    try:
        found = load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # PyTorch raises many kinds for damaged files
        if type(error).__name__ == "UnpicklingError":
            raise UserError(
                f"{path} holds more than tensors, or is no file of PyTorch: it cannot be "
                "read without running what is in it. Save model.state_dict() alone."
            ) from error
        raise _damaged(path, "file of PyTorch", error) from error
    for key in ENVELOPES:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise UserError(
            f"{path} holds {type(found).__name__}, not tensors by name. Save "
            "model.state_dict()."
        )
    return found


READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".pth": _pth,
    ".pt": _pth,
}
"""What reads a file, by its ending."""


def _array(path: Path, name: Any, value: Any) -> np.ndarray:
    """Takes an array, or a tensor of PyTorch."""
    if not isinstance(value, np.ndarray) and not hasattr(value, "__array__"):
        raise UserError(
            f'{path} holds {type(value).__name__} under "{name}", not a tensor. Save '
            "model.state_dict() alone."
        )
    if "bfloat16" in str(value.dtype) and not isinstance(value, np.ndarray):
        value = value.float()  # PyTorch gives no bfloat16 to NumPy; float32 holds it
    return np.asarray(value)


def _damaged(path: Path, kind: str, error: Exception) -> UserError:
    return UserError(
        f"{path} is no whole {kind} ({_first_line(error)}). Copy or download it again."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100].rstrip(" .:")
