"""Normalisation layers; the arithmetic is that of `ops/normalization/channels.py`."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.attributes import check_counts, check_flags, check_fractions
from segjax.ops.normalization.channels import batch_norm, group_norm, normalize_by
from segjax.types import Array, Dtype

KINDS = ("batch", "group")
"""How channels are normalised: over the batch, or in groups within each image."""

BATCH = ("batch",)
"""Kinds for networks whose logits may depend on nearby pixels alone."""


@dataclasses.dataclass(frozen=True)
class Norm:
    """How channels are normalised; networks and layers take one, or None for no norm.

    In a config it is a group, whose missing keys keep the network's defaults:

        "backbone": {"name": "resnet", "norm": {"momentum": 0.95}}

    Attributes:
      kind: "batch" (Ioffe, Szegedy 2015, arXiv 1502.03167), or "group" (Wu, He 2018,
        arXiv 1803.08494), which needs no batch.
      momentum: fraction of the old running statistics that each step keeps; PyTorch's 0.1
        is 0.9 here. Of the kind "batch".
      epsilon: added to the variance.
      frozen: whether the running statistics are used and kept in training, too; scale
        and bias are trained all the same. Of the kind "batch".
      groups: of channels; the channels have to be a multiple. Of the kind "group".

    Example:
      >>> Norm(momentum=0.99).epsilon
      1e-05
      >>> Norm("layer")
      Traceback (most recent call last):
      ...
      ValueError: kind is one of ('batch', 'group'), got 'layer'
    """

    kind: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    frozen: bool = False
    groups: int = 32

    def __post_init__(self) -> None:
        """Checks the values; a `ValueError` names the field and what is allowed."""
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {KINDS}, got {self.kind!r}")
        check_fractions(momentum=self.momentum)
        if not 0 <= self.epsilon < float("inf"):
            raise ValueError(f"epsilon is a number of at least 0, got {self.epsilon!r}")
        check_flags(frozen=self.frozen)
        check_counts(groups=self.groups)


def check_norm(norm: Norm | None, allowed: tuple[str | None, ...]) -> None:
    """Checks that a module can work with a norm.

    Args:
      norm: its attribute.
      allowed: kinds, and None where it can do without.

    Raises:
      ValueError: if it is of another kind, or no norm at all.
    """
    if norm is None and None in allowed:
        return
    if not isinstance(norm, Norm) or norm.kind not in allowed:
        kinds = " or ".join(f'"{kind}"' for kind in allowed if kind)
        instead = " or None" if None in allowed else ""
        raise ValueError(f"norm is a Norm of the kind {kinds}{instead}, got {norm!r}")


def normalize(
    x: Array, norm: Norm, *, train: bool, param_dtype: Dtype, name: str = "norm"
) -> Array:
    """Applies a norm as a submodule of the module that calls this.

    Args:
      x: `[B, H, W, C]`.
      norm: how channels are normalised.
      train: whether statistics are those of the batch, unless they are frozen.
      param_dtype: dtype in which scale and bias are stored.
      name: of the submodule.

    Returns:
      The same shape and dtype.
    """
    if norm.kind == "group":
        return GroupNorm(norm.groups, norm.epsilon, param_dtype, name=name)(x)
    layer = BatchNorm(norm.momentum, norm.epsilon, param_dtype, name=name)
    return layer(x, train=train and not norm.frozen)


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics in the collection `batch_stats`.

    Parameters and statistics have the names of `flax.linen.BatchNorm`, and the numbers
    are the same; the backward pass is written out.

    Attributes:
      momentum: fraction of the old running statistics that each step keeps; PyTorch's
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
