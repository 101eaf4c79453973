"""The blocks of GoogLeNet: four branches side by side, and classifiers in the middle.

Szegedy et al., CVPR 2015, arXiv 1409.4842.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv import Conv
from segjax.layers.initializers import he_normal
from segjax.layers.norm import Norm, normalize
from segjax.ops.pooling.adaptive import adaptive_avg_pool
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

AUXILIARY_WINDOW = 4
AUXILIARY_DROPOUT = 0.7


class Unit(nn.Module):
    """A convolution with a bias or batch normalisation, and a ReLU.

    Attributes:
      features: output channels.
      kernel: side of the kernel, odd.
      stride: output pixels are this many input pixels apart.
      padding: rows of zeros on each side; None is half of the kernel.
      norm: what stands in place of the bias; None for nothing.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    kernel: int = 1
    stride: int = 1
    padding: int | None = None
    norm: Norm | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        x = Conv(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            self.kernel // 2 if self.padding is None else self.padding,
            use_bias=self.norm is None,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="conv",
        )(x)
        if self.norm is not None:
            x = normalize(x, self.norm, train=train, param_dtype=self.param_dtype)
        return nn.relu(x)


class Inception(nn.Module):
    """Four views of one map side by side (figure 2b).

    Attributes:
      widths: channels of the 1x1; of the 3x3, reduced and out; of the 5x5, reduced and
        out; of the projection behind the pooling.
      wide_kernel: side of the kernel that is 5 in the paper.
      unit: makes the convolutions.
    """

    widths: tuple[int, ...]
    wide_kernel: int
    unit: Callable[..., Unit]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to as many channels as the four branches give."""
        one, reduce3, three, reduce5, five, projected = self.widths

        def unit(x: Array, features: int, kernel: int, name: str) -> Array:
            return self.unit(features, kernel, name=name)(x, train=train)

        pooled = max_pool(x, window=3, stride=1, padding=1)
        branches = [
            unit(x, one, 1, "conv1x1"),
            unit(unit(x, reduce3, 1, "reduce3x3"), three, 3, "conv3x3"),
            unit(unit(x, reduce5, 1, "reduce5x5"), five, self.wide_kernel, "conv5x5"),
            unit(pooled, projected, 1, "projection"),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryHead(nn.Module):
    """A classifier on a map in the middle, which serves training alone (section 5).

    The map is averaged in 4 x 4 bins as in torchvision; for the paper's map of 14 x 14
    pixels its own 5x5 windows of stride 3 give as many.

    Attributes:
      num_classes: classes, K.
      features: channels of the convolution, and of the layer behind it.
      unit: makes the convolution.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, int]
    unit: Callable[..., Unit]
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to logits `[B, K]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        convolved, hidden = self.features
        window = (AUXILIARY_WINDOW, AUXILIARY_WINDOW)
        x = adaptive_avg_pool(x, size=window)
        x = self.unit(convolved, name="conv")(x, train=train)
        x = nn.relu(Conv(hidden, window, **types, name="fc1")(x))[:, 0, 0]
        x = nn.Dropout(AUXILIARY_DROPOUT, deterministic=not train, name="dropout")(x)
        dense = nn.Dense(self.num_classes, kernel_init=he_normal(), **types, name="fc2")
        return dense(x).astype(jnp.float32)
