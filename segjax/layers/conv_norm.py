"""The unit that most networks since 2015 are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal
from segjax.layers.norm import KINDS, Norm, check_norm, normalize
from segjax.ops.convolution.arguments import Padding
from segjax.types import Array, Dtype

Activation = Callable[[Array], Array]


def norm_options(module: Any) -> dict[str, Any]:
    """The options that a module with norms hands on to the parts that have them.

    Args:
      module: with the attributes `norm`, `dtype` and `param_dtype`.

    Returns:
      Arguments of `ConvNorm`, and of modules that are made of it.
    """
    return {
        "norm": module.norm,
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
      activation: what follows the norm; None for nothing.
      norm: what follows the convolution; with None it has a bias instead.
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
    norm: Norm | None = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal()

    def __post_init__(self) -> None:
        """Checks the norm when the module is made."""
        check_norm(self.norm, (*KINDS, None))
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
        if self.norm is not None:
            x = normalize(x, self.norm, train=train, param_dtype=self.param_dtype)
        return x if self.activation is None else self.activation(x)
