"""The block of the mobile networks: thin at its ends, wide and depthwise in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.layers.conv import Conv
from segjax.layers.conv_norm import Activation, ConvNorm, norm_options
from segjax.layers.norm import Norm
from segjax.types import Array, Dtype


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is no more than a tenth below `channels`.

    Example:
      >>> divisible(18), divisible(27)
      (24, 32)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the means of all channels.

    Hu, Shen, Sun, CVPR 2018, arXiv 1709.01507, with the hard sigmoid of MobileNet v3.

    Attributes:
      features: channels between the two 1x1 convolutions.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to the same shape."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        mean = x.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)
        inner = nn.relu(Conv(self.features, (1, 1), **types, name="reduce")(mean))
        scale = Conv(x.shape[-1], (1, 1), **types, name="expand")(inner)
        return x * jax.nn.hard_sigmoid(scale)


class InvertedResidual(nn.Module):
    """1x1 to many channels, depthwise, 1x1 to few, which are added to the input.

    Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, arXiv 1801.04381, section 3.3;
    Howard et al., ICCV 2019, arXiv 1905.02244, section 5.1 (squeeze and excitation).

    Attributes:
      features: output channels.
      expanded: channels of the depthwise convolution; where the input has as many, there
        is no first 1x1.
      kernel: side of the depthwise kernel.
      stride: of the depthwise convolution.
      dilation: of the depthwise convolution.
      is_residual: whether the input is added.
      squeezed: channels in the middle of the squeeze and excitation; None for none.
      activation: after the first and the depthwise convolution; nothing follows the last.
      fused: whether one full convolution stands for the first and the depthwise one, as in
        MobileNetEdgeTPU; none where the input has as many channels as `expanded`.
      padding: of the convolution with the kernel: None, or "same" as in TensorFlow.
      norm: what follows each convolution.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    expanded: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    is_residual: bool = False
    squeezed: int | None = None
    activation: Activation = jax.nn.relu6
    fused: bool = False
    padding: str | None = None
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norms = norm_options(self)
        before = x
        kernel, wide = (self.kernel, self.kernel), self.expanded
        conv: Callable[..., ConvNorm] = partial(
            ConvNorm, wide, activation=self.activation, **norms
        )
        at_kernel = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
        }
        if wide != x.shape[-1] and self.fused:
            x = conv(kernel, **at_kernel, name="expand")(x, train=train)
        elif wide != x.shape[-1]:
            x = conv((1, 1), name="expand")(x, train=train)
        if not self.fused:
            depthwise = conv(kernel, **at_kernel, groups=wide, name="depthwise")
            x = depthwise(x, train=train)
        if self.squeezed is not None:
            x = SqueezeExcitation(self.squeezed, **types, name="squeeze")(x)
        project = ConvNorm(
            self.features, (1, 1), activation=None, **norms, name="project"
        )
        x = project(x, train=train)
        return before + x if self.is_residual else x
