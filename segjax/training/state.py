"""The complete state of a run between two steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from segjax.types import Array


@flax.struct.dataclass
class TrainState:
    """The state of training; what is not in here does not survive a restart.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the trainable arrays of the model.
      batch_stats: its running statistics; empty where it has none.
      opt_state: the optimizer's own arrays.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def without_optimizer(variables: Mapping[str, Any]) -> TrainState:
    """The state at step 0 of a network whose optimizer is of no interest; traceable."""
    params, statistics = variables["params"], variables.get("batch_stats", {})
    return TrainState(jnp.zeros((), jnp.int32), params, statistics, opt_state=None)


def parameters_sha256(params: Any) -> str:
    """Hashes names, shapes, dtypes and bytes of all parameters, in the order of names.

    Two runs with the same hash have the same parameters, bit for bit.
    """
    return tree_sha256(params)


def tree_sha256(tree: Any) -> str:
    """Hashes names, shapes, dtypes and bytes of all leaves, in the order of names."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(local_value(leaf))
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def local_value(x: Array | np.ndarray) -> np.ndarray:
    """Brings a replicated array to the host, also where it spans several hosts."""
    if isinstance(x, jax.Array):
        return np.asarray(x.addressable_data(0))
    return np.asarray(x)


def about_sha256(about: Mapping[str, Any]) -> str:
    """Hashes the JSON beside a checkpoint, all of it but this very hash."""
    plain = {key: value for key, value in about.items() if key != "about_sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def first_difference(saved: Any, wanted: Any) -> str:
    """Names the first parameter that two networks do not share, by name or shape.

    Args:
      saved: parameters of a checkpoint, of which shapes are enough.
      wanted: those of the network by the config.

    Returns:
      The end of a sentence; empty where there is no difference.
    """
    theirs, ours = _shapes(saved), _shapes(wanted)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            there, here = (
                f"of shape {list(x[name])}" if name in x else "missing"
                for x in (theirs, ours)
            )
            return f"{name} is {there} in it, and {here} by the config"
    return ""


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of parameters by name, as "down1/conv1/kernel"."""
    leaves = traverse_util.flatten_dict(dict(tree), sep="/")
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}
