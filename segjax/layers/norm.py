"""Normalisation layers; the arithmetic is that of `ops/norm.py`."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.ops.norm import batch_norm, normalize_by
from segjax.types import Array, Dtype


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics in the collection `batch_stats`.

    Parameters and statistics have the names of `flax.linen.BatchNorm`, and the numbers
    are the same; the backward pass is written out.

    Attributes:
      momentum: share of the old running statistics that each step keeps; PyTorch's
        0.1 is 0.9 here.
      epsilon: added to the variance.
      param_dtype: dtype in which scale and bias are stored.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to the same shape and dtype."""
        shape = (x.shape[-1],)
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, shape, self.param_dtype).astype(jnp.float32)
        bias = self.param("bias", zeros, shape, self.param_dtype).astype(jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            return normalize_by(
                x, mean.value, variance.value, scale, bias, epsilon=self.epsilon
            )
        y, new_mean, new_variance = batch_norm(x, scale, bias, epsilon=self.epsilon)
        if not self.is_initializing():
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * new_mean
            variance.value = keep * variance.value + (1 - keep) * new_variance
        return y
