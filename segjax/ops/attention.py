"""Attention: each query reads the values whose keys it resembles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.types import Array

LARGEST = 1 << 26
"""Scores that are in memory at once, 256 MiB in float32."""


def dot_product_attention(
    query: Array, key: Array, value: Array, *, largest: int = LARGEST
) -> Array:
    """Averages values, weighted by how well their keys fit each query.

    Each head is `softmax(q k^T / sqrt(D)) v` (Vaswani et al. 2017, arXiv 1706.03762,
    equation 1); scores and softmax are float32 at least. Where there would be more than
    `largest` scores, queries are taken in blocks, whose scores the backward pass computes
    again: memory then grows with the numbers of queries and keys, not with their product.

    Args:
      query: `[B, N, heads, D]`.
      key: `[B, M, heads, D]`.
      value: `[B, M, heads, D]`.
      largest: scores that may be in memory at once; where the number of images is open, as
        in a program (`jax.export`), those of each image.

    Returns:
      `[B, N, heads, D]`, of the dtype of `query`.

    Raises:
      ValueError: if the shapes do not fit, or `largest` is below 1.

    Example:
      >>> query, key = jnp.zeros((1, 1, 1, 2)), jnp.ones((1, 2, 1, 2))
      >>> value = jnp.array([[1.0, 1.0], [3.0, 3.0]]).reshape(1, 2, 1, 2)
      >>> dot_product_attention(query, key, value).ravel().tolist()
      [2.0, 2.0]
    """
    fits = query.ndim == 4 and key.ndim == 4 and key.shape == value.shape
    if not fits or query.shape[::2] + query.shape[3:] != key.shape[::2] + key.shape[3:]:
        raise ValueError(
            "query is [B, N, heads, D], key and value are [B, M, heads, D], got "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    if largest < 1:
        raise ValueError(f"largest is at least 1, got {largest}")
    batch, length, heads, size = query.shape
    if not all(isinstance(size, int) for size in (length, key.shape[1])):
        return jax.nn.dot_product_attention(query, key, value)
    # How many images an exported program is given is not known: the memory is that of one.
    known = batch if isinstance(batch, int) else 1
    count = -(-known * heads * length * key.shape[1] // largest)
    if count <= 1:
        return jax.nn.dot_product_attention(query, key, value)
    block = -(-length // min(count, length))
    count = -(-length // block)
    spare = count * block - length
    padded = jnp.pad(query, ((0, 0), (0, spare), (0, 0), (0, 0)))
    blocks = jnp.moveaxis(padded.reshape(batch, count, block, heads, size), 1, 0)
    attend = jax.checkpoint(lambda x: jax.nn.dot_product_attention(x, key, value))
    found = jnp.moveaxis(lax.map(attend, blocks), 0, 1)
    return found.reshape(batch, count * block, heads, size)[:, :length]
