"""The unit that most networks since 2015 are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal
from segjax.layers.norm import BatchNorm, GroupNorm
from segjax.ops.convolution.arguments import Padding
from segjax.types import Array, Dtype

Activation = Callable[[Array], Array]

NORMS = ("batch", "group", None)
"""How channels are normalised: over the batch, in groups within each image, not at all."""


def check_norm(norm: str | None, allowed: tuple[str | None, ...] = NORMS) -> None:
    """Checks the name of a norm.

    Raises:
      ValueError: if it is none of those that are allowed.
    """
    if norm not in allowed:
        raise ValueError(f"norm is one of {allowed}, got {norm!r}")


def norm_options(module: Any) -> dict[str, Any]:
    """What a module with norms hands on to the parts that have them.

    Args:
      module: with the attributes `norm_momentum`, `norm_epsilon`, `norm_frozen`, `dtype`
        and `param_dtype`.

    Returns:
      Arguments of `ConvNorm`, and of what is made of it.
    """
    return {
        "norm_momentum": module.norm_momentum,
        "norm_epsilon": module.norm_epsilon,
        "norm_frozen": module.norm_frozen,
        "dtype": module.dtype,
        "param_dtype": module.param_dtype,
    }


class ConvNorm(nn.Module):
    """A convolution without bias, a normalisation, and an activation.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel.
      stride: output pixels are this many input pixels apart.
      padding: rows and columns of zeros on each side; None keeps the size at stride 1,
        whatever the dilation (the kernel's side has to be odd).
      dilation: spacing of the kernel's taps, in pixels.
      groups: groups of channels that do not see each other.
      activation: what follows the norm; None is nothing.
      norm: one of `NORMS`: "batch", "group", or None, and then the convolution has a
        bias.
      norm_groups: groups of channels where they are normalised in groups.
      norm_momentum: share of the old running statistics that each step keeps.
      norm_epsilon: added to the variance.
      norm_frozen: whether the running statistics are used and kept in training, too.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
      kernel_init: initial kernel, from key, shape and dtype.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding | None = None
    dilation: int = 1
    groups: int = 1
    activation: Activation | None = nn.relu
    norm: str | None = "batch"
    norm_groups: int = 32
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    norm_frozen: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal()

    def __post_init__(self) -> None:
        """Checks the norm when the module is made."""
        check_norm(self.norm)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        padding = self.padding
        if padding is None:
            height, width = (self.dilation * (k // 2) for k in self.kernel_size)
            padding = ((height, height), (width, width))
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            use_bias=self.norm is None,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        if self.norm == "batch":
            x = BatchNorm(
                self.norm_momentum, self.norm_epsilon, self.param_dtype, name="norm"
            )(x, train=train and not self.norm_frozen)
        elif self.norm == "group":
            x = GroupNorm(
                self.norm_groups, self.norm_epsilon, self.param_dtype, name="norm"
            )(x)
        return x if self.activation is None else self.activation(x)
