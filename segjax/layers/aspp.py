"""Atrous spatial pyramid pooling with image-level features.

Chen, Papandreou, Schroff, Adam 2017, "Rethinking atrous convolution for semantic image
segmentation", arXiv 1706.05587, section 3.3 and figure 5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.initializers import normal
from segjax.layers.norm import Norm
from segjax.layers.separable import SeparableConvNorm
from segjax.types import Array, Dtype

RATES_STRIDE = 16
"""The output stride for which `rates` are given, as in the paper."""

SCORE_INIT = normal(0.01)
"""Initial weights of the layer that gives the logits, as in the release."""


def scaled_rates(rates: tuple[int, ...], output_stride: int) -> tuple[int, ...]:
    """The rates that see the same part of the image at another output stride.

    Args:
      rates: dilations on a map at output stride 16.
      output_stride: image pixels per pixel of the map at hand.

    Returns:
      Dilations on that map; doubled at output stride 8 (section 3.3).

    Raises:
      ValueError: if one of them is not an integer.

    Example:
      >>> scaled_rates((6, 12, 18), output_stride=8)
      (12, 24, 36)
    """
    for rate in rates:
        if rate * RATES_STRIDE % output_stride:
            raise ValueError(
                f"rates are {rates} at output stride {RATES_STRIDE}, of which {rate} is "
                f"not an integer of pixels at output_stride {output_stride}; allowed "
                f"are multiples of {output_stride // RATES_STRIDE}"
            )
    return tuple(rate * RATES_STRIDE // output_stride for rate in rates)


class ASPP(nn.Module):
    """One map seen at several rates and as a whole, concatenated and projected.

    The branches are concatenated in the order of figure 5: 1x1, the rates, the image
    (torchvision's order, too; the authors' release puts the image first).

    Attributes:
      rates: dilation of each 3x3 branch, in pixels of the map; none in the mobile form of
        the authors' release, which has the 1x1 branch and the image alone.
      features: channels of each branch and of the result.
      separable: whether the 3x3 branches are separable (Chen et al. 2018, arXiv
        1802.02611, section 3.1).
      dropout_rate: fraction of the result dropped in training; 0.1 is the release's.
      norm: what follows each convolution.
      depthwise_norm: whether it follows depthwise ones, too.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    rates: tuple[int, ...] = (6, 12, 18)
    features: int = 256
    separable: bool = False
    dropout_rate: float = 0.1
    norm: Norm = Norm(momentum=0.9997)
    depthwise_norm: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, h, w, C]` to `[B, h, w, features]`."""
        common = norm_options(self)
        atrous: Callable[..., nn.Module] = ConvNorm
        if self.separable:
            atrous = partial(SeparableConvNorm, depthwise_norm=self.depthwise_norm)

        def pointwise(x: Array, name: str) -> Array:
            conv = ConvNorm(self.features, (1, 1), **common, name=name)
            return conv(x, train=train)

        branches = [pointwise(x, "pointwise")]
        for i, rate in enumerate(self.rates, 1):
            conv = atrous(self.features, dilation=rate, **common, name=f"atrous{i}")
            branches.append(conv(x, train=train))
        mean = x.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)
        # Resizing one pixel bilinearly repeats it.
        image = jnp.broadcast_to(pointwise(mean, "image"), branches[0].shape)
        x = pointwise(jnp.concatenate([*branches, image], axis=-1), "project")
        return nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)

    def layers(self) -> tuple[Layer, ...]:
        """The path of the largest rate; the image's branch sees everything."""
        if not self.rates:
            return Layer("pointwise/conv"), Layer("project/conv")
        i, rate = max(enumerate(self.rates, 1), key=lambda entry: entry[1])
        parts = ("depthwise/conv", "pointwise/conv") if self.separable else ("conv",)
        first, *rest = (f"atrous{i}/{part}" for part in parts)
        atrous = Layer(first, kernel=3, padding=rate, dilation=rate)
        return (atrous, *map(Layer, rest), Layer("project/conv"))
