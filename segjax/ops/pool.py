"""Pooling, and the unpooling that undoes it."""

from __future__ import annotations

import jax.numpy as jnp

from segjax.types import Array


def max_pool(x: Array, *, window: int = 2) -> Array:
    """Takes the maximum of each 2x2 block; an odd last row or column is left out."""
    if window != 2:
        raise ValueError(f"window is {window}; allowed is 2")
    batch, height, width, channels = x.shape
    h, w = height // 2, width // 2
    x = x[:, : 2 * h, : 2 * w].reshape(batch, h, 2, w, 2, channels)
    return jnp.max(x, axis=(2, 4))
