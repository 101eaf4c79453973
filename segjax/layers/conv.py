"""Convolutions that own their weights; the arithmetic is that of `ops/convolution/convolve.py`."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.initializers import Initializer, he_normal
from segjax.ops.base.kernels import apply_kernel
from segjax.ops.convolution.arguments import Padding
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose
from segjax.types import Array, Dtype


class Conv(nn.Module):
    """A convolution with a bias.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel.
      stride: output pixels are this many input pixels apart.
      padding: rows and columns of zeros on each side, as in `ops.convolution.convolve.conv`.
      dilation: spacing of the kernel's taps, in pixels.
      groups: groups of channels that do not see each other.
      use_bias: whether a bias is added.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
      kernel_init: initial kernel, from key, shape and dtype.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding = 0
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        convolve = partial(
            conv,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = apply_kernel(convolve, x, kernel, inputs=2)
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            bias = self.param("bias", zeros, (self.features,), self.param_dtype)
            x = x + bias.astype(self.dtype)[None, None, None]
        return x


class UpConv(nn.Module):
    """The transposed convolution whose kernel is as wide as its stride.

    Each input pixel becomes one block of output pixels, and blocks do not overlap.

    Attributes:
      features: output channels.
      factor: side of the kernel, and the stride.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    factor: int = 2
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, factor H, factor W, features]`."""
        channels = x.shape[-1]
        shape = (self.factor, self.factor, self.features, channels)
        kernel = self.param("kernel", he_normal(channels), shape, self.param_dtype)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.features,), self.param_dtype)
        enlarge = partial(conv_transpose, stride=self.factor)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = apply_kernel(enlarge, x, kernel, inputs=3)
        return x + bias.astype(self.dtype)[None, None, None]
