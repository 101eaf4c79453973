"""Checks of arguments that many ops share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import jax.numpy as jnp
import numpy as np

from segjax.types import Array

Pair = int | tuple[int, int]


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """Reads one number or two, each at least `least`."""
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    whole = all((is_open(v) or isinstance(v, Integral)) and v >= least for v in both)
    if len(both) != 2 or not whole:
        raise ValueError(
            f"{name} is {value!r}; allowed is an integer of at least {least}, or two"
        )
    first, second = (v if is_open(v) else int(v) for v in both)
    return first, second


def is_open(size: object) -> bool:
    """Whether a size is an expression of `jax.export`, as the images' own is not known."""
    return hasattr(size, "dimension_as_value")


def arange(count: int) -> Array | np.ndarray:
    """Numbers from 0 on, int32, also as many as an open size says."""
    return (jnp if is_open(count) else np).arange(count, dtype=np.int32)


def check_maps(x: Array, name: str = "x") -> None:
    """Refuses what is not `[B, H, W, C]`."""
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(
            f"{name} has shape {x.shape}; allowed is [B, H, W, C], H and W at least 1"
        )


def check_floating(x: Array) -> None:
    """Refuses integers, of which a mean would be rounded."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is of dtype {x.dtype}; allowed are floating-point dtypes")
