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

SAME = "same"
"""TensorFlow's padding: where a stride leaves an odd number of zeros, the last is behind."""


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


def same_padding(
    side: int, kernel: int, stride: int, dilation: int = 1
) -> tuple[int, int]:
    """The zeros before and behind, by which `side / stride` pixels come out, rounded up.

    Args:
      side: pixels along an axis.
      kernel: taps.
      stride: of the convolution.
      dilation: spacing of the taps.

    Returns:
      The numbers of zeros.

    Example:
      >>> same_padding(224, 3, 2), same_padding(225, 3, 2)
      ((0, 1), (1, 1))
    """
    reach = (-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1
    zeros = max(0, reach - side)
    return zeros // 2, zeros - zeros // 2


class ConvNorm(nn.Module):
    """A convolution without bias, a normalisation, and an activation.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel.
      stride: output pixels are this many input pixels apart.
      padding: rows and columns of zeros on each side; None keeps the size at stride 1,
        whatever the dilation (the kernel's side has to be odd). "same" is TensorFlow's,
        which differs from None at stride 2 on maps of even sides.
      dilation: spacing of the kernel's taps, in pixels.
      groups: groups of channels that do not see each other.
      activation: what follows the norm; None for nothing.
      norm: what follows the convolution.
      use_bias: whether the convolution has a bias; None where no norm follows.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
      kernel_init: initial kernel, from key, shape and dtype.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding | str | None = None
    dilation: int = 1
    groups: int = 1
    activation: Activation | None = nn.relu
    norm: Norm | None = Norm()
    use_bias: bool | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal()

    def __post_init__(self) -> None:
        """Checks the norm when the module is made."""
        check_norm(self.norm, (*KINDS, None))
        if isinstance(self.padding, str) and self.padding != SAME:
            raise ValueError(
                f'padding is numbers, "{SAME}" or None, got {self.padding!r}'
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        padding = self.padding
        if padding is None:
            height, width = (self.dilation * (k // 2) for k in self.kernel_size)
            padding = ((height, height), (width, width))
        elif isinstance(padding, str):
            rows, columns = (
                same_padding(side, kernel, self.stride, self.dilation)
                for side, kernel in zip(x.shape[1:3], self.kernel_size, strict=True)
            )
            padding = (rows, columns)
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            use_bias=self.norm is None if self.use_bias is None else self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        if self.norm is not None:
            x = normalize(x, self.norm, train=train, param_dtype=self.param_dtype)
        return x if self.activation is None else self.activation(x)
