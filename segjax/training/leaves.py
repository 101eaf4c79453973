"""The arrays of a state: their names, and their values on the host."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from segjax.types import Array


def path_name(path: Any) -> str:
    """The name of a leaf.

    Args:
      path: of `jax.tree_util`.

    Returns:
      The keys from the root on.

    Example:
      >>> tree = {"conv": {"kernel": 0.5}}
      >>> [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
      ['conv/kernel']
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def local_value(x: Array | np.ndarray) -> np.ndarray:
    """Brings a replicated array to the host, also where it spans several hosts."""
    if isinstance(x, jax.Array):
        return np.asarray(x.addressable_data(0))
    return np.asarray(x)


def placed_like(value: np.ndarray, x: Array | np.ndarray) -> Array | np.ndarray:
    """Brings an array from the host to where a replicated one is, which may be the host."""
    if not isinstance(x, jax.Array):
        return value
    return jax.make_array_from_process_local_data(x.sharding, value)


def is_traced(*values: Any) -> bool:
    """Whether one of some arrays stands for values that are not known yet."""
    return any(isinstance(x, jax.core.Tracer) for x in values)
