"""Dtypes of sums."""

from __future__ import annotations

import jax.numpy as jnp

from segjax.types import Array


def wide_dtype(x: Array) -> jnp.dtype:
    """The dtype in which sums of `x` are kept: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)
