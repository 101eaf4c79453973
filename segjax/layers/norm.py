"""Normalisation layers; the arithmetic is that of `ops/normalization/channels.py`."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.ops.normalization.channels import batch_norm, group_norm, normalize_by
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


class GroupNorm(nn.Module):
    """Group normalisation: each image by itself, the channels in groups.

    Wu, He, ECCV 2018, arXiv 1803.08494. It needs no batch, and so suits images of which
    a device holds one or two. Statistics are float32.

    Attributes:
      groups: of channels; the channels have to be a multiple.
      epsilon: added to the variance.
      param_dtype: dtype in which scale and bias are stored.
    """

    groups: int = 32
    epsilon: float = 1e-5
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to the same shape and dtype."""
        channels = x.shape[-1]
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, (channels,), self.param_dtype)
        bias = self.param("bias", zeros, (channels,), self.param_dtype)
        return group_norm(x, scale, bias, groups=self.groups, epsilon=self.epsilon)
