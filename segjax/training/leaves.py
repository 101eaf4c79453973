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
