"""The arrays of a state: their names, and their values on the host."""

from __future__ import annotations

from collections.abc import Callable
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


def differing_leaf(
    first: Any, second: Any, kind: Callable[[Any], str]
) -> tuple[str, str, str] | None:
    """Finds the first leaf, by name, that is not the same in two trees.

    Args:
      first: a tree.
      second: another.
      kind: what is compared of a leaf, in words.

    Returns:
      The name, and the words of both, "missing" where there is none; None for equal trees.

    Example:
      >>> differing_leaf({"a": 1}, {"a": 1, "b": 2}, str)
      ('b', 'missing', '2')
    """
    kinds = [
        {
            path_name(path): kind(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (first, second)
    ]
    for name in sorted(kinds[0].keys() | kinds[1].keys()):
        one, other = (x.get(name, "missing") for x in kinds)
        if one != other:
            return name, one, other
    return None


def whole_value(x: Array | np.ndarray) -> np.ndarray:
    """Brings an array to the host, all of it, however it is divided among devices.

    Where parts of it are with other processes, they send them: all processes have to call this,
    for the same arrays in the same order.
    """
    if not isinstance(x, jax.Array):
        return np.asarray(x)
    if x.is_fully_replicated:
        return np.asarray(x.addressable_data(0))
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def local_values(x: Array | np.ndarray) -> list[np.ndarray]:
    """The parts of an array that this process has, each once; no other process is asked."""
    if not isinstance(x, jax.Array):
        return [np.asarray(x)]
    parts = {str(shard.index): shard.data for shard in x.addressable_shards}
    return [np.asarray(part) for part in parts.values()]


def put_whole(value: Any, sharding: jax.sharding.Sharding) -> Array:
    """Hands the devices of all processes their parts of an array that every process has."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])


def placed_like(value: np.ndarray, x: Array | np.ndarray) -> Array | np.ndarray:
    """Brings a whole array from the host to where another one is, which may be the host."""
    return put_whole(value, x.sharding) if isinstance(x, jax.Array) else value


def is_traced(*values: Any) -> bool:
    """Whether one of some arrays stands for values that are not known yet."""
    return any(isinstance(x, jax.core.Tracer) for x in values)
