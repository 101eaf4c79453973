"""Depthwise separable convolution: first over the image, then over the channels."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv_norm import Activation, ConvNorm, norm_options
from segjax.layers.initializers import Initializer, he_normal
from segjax.layers.norm import Norm
from segjax.ops.convolution.arguments import Padding
from segjax.types import Array, Dtype


class SeparableConvNorm(nn.Module):
    """A convolution of each channel by itself, then a 1x1 convolution, each with a norm.

    Atrous separable convolution (Chen et al. 2018, arXiv 1802.02611, section 3.1) is
    this with a dilation; the norm after the depthwise step is that of the authors'
    release.

    Attributes:
      features: output channels.
      kernel_size: height and width of the depthwise kernel.
      stride: output pixels are this many input pixels apart.
      padding: as in `ConvNorm`; None keeps the size at stride 1.
      dilation: spacing of the depthwise kernel's taps, in pixels.
      activation: what follows the norms; None for nothing.
      norm: what follows the convolutions.
      depthwise_norm: whether norm and activation follow the depthwise step, too;
        segmentation_models.pytorch has them behind the pointwise step alone.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
      depthwise_init: initial kernel of the depthwise step.
      pointwise_init: initial kernel of the pointwise step.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding | None = None
    dilation: int = 1
    activation: Activation | None = nn.relu
    norm: Norm = Norm()
    depthwise_norm: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    depthwise_init: Initializer = he_normal()
    pointwise_init: Initializer = he_normal()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        common = {"activation": self.activation, **norm_options(self)}
        channels, depthwise = x.shape[-1], common
        if not self.depthwise_norm:
            depthwise = {**common, "activation": None, "norm": None, "use_bias": False}
        x = ConvNorm(
            channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            groups=channels,
            kernel_init=self.depthwise_init,
            **depthwise,
            name="depthwise",
        )(x, train=train)
        return ConvNorm(
            self.features,
            (1, 1),
            kernel_init=self.pointwise_init,
            **common,
            name="pointwise",
        )(x, train=train)
