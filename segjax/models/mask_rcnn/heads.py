"""Heads for each region: class and box, mask, keypoints.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, figure 4 (right) and section
5; the box head is that of Lin et al., CVPR 2017, arXiv 1612.03144, section 4.2.
Within a head the regions of all images are one batch, N.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv import Conv, UpConv
from segjax.layers.conv_norm import ConvNorm
from segjax.layers.initializers import he_normal, normal
from segjax.layers.norm import Norm
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.cpu.valid_slots import on_valid_slots
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype


class FlatDense(nn.Module):
    """A dense layer on all of a map: a convolution as large as the map.

    Its kernel is `[h, w, C, features]`, so that the order in which other programs
    flatten a map can be seen from the kernel's axes.

    Attributes:
      features: output channels.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, h, w, C]` to `[N, features]`."""
        shape = (*x.shape[1:], self.features)
        kernel = self.param("kernel", he_normal(), shape, self.param_dtype)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.features,), self.param_dtype)
        flat = x.astype(self.dtype).reshape(x.shape[0], -1)
        kernel = kernel.astype(self.dtype).reshape(-1, self.features)
        return flat @ kernel + bias.astype(self.dtype)[None]


class BoxHead(nn.Module):
    """Class and box of each region.

    Attributes:
      num_classes: K, of which 0 is the background.
      conv_features: channels of 3x3 convolutions before the dense layers.
      features: channels of the dense layers.
      norm: what follows each convolution; None for nothing.
      dtype: dtype of the computation; logits and deltas are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    conv_features: tuple[int, ...] = ()
    features: tuple[int, ...] = (1024, 1024)
    norm: Norm | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, regions: Array, *, train: bool) -> tuple[Array, Array]:
        """Maps regions to logits and deltas.

        Args:
          regions: `[B, R, s, s, C]`.
          train: whether statistics are those of the batch.

        Returns:
          Logits `[B, R, K]`, and deltas of each class `[B, R, K, 4]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        lead = regions.shape[:2]
        x = convolve(self, together(regions), self.conv_features, train=train)
        for i, features in enumerate(self.features):
            layer: nn.Module = (
                FlatDense(features, **types, name="fc1")
                if not i
                else nn.Dense(
                    features, kernel_init=he_normal(), **types, name=f"fc{i + 1}"
                )
            )
            x = nn.relu(layer(x))
        dense = lambda count, std, name: nn.Dense(
            count, kernel_init=normal(std), **types, name=name
        )
        logits = dense(self.num_classes, 0.01, "logits")(x)
        deltas = dense(4 * self.num_classes, 0.001, "deltas")(x)
        logits = logits.astype(jnp.float32).reshape(*lead, self.num_classes)
        return logits, deltas.astype(jnp.float32).reshape(*lead, self.num_classes, 4)


class SelectClassMask(nn.Module):
    """A 1x1 convolution of which each region gets the one channel of its own class.

    Attributes:
      num_classes: channels to choose from.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, classes: Array) -> Array:
        """Maps `[N, h, w, C]` and int `[N]` to `[N, h, w]`."""
        shape = (1, 1, x.shape[-1], self.num_classes)
        kernel = self.param("kernel", he_normal(), shape, self.param_dtype)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.num_classes,), self.param_dtype)
        own = kernel[0, 0].T[classes].astype(self.dtype)
        y = jnp.einsum("nhwc,nc->nhw", x.astype(self.dtype), own)
        return y + bias[classes].astype(self.dtype)[:, None, None]


class MaskHead(nn.Module):
    """A mask of each region for its class: convolutions, twice the size, scores.

    Attributes:
      num_masks: masks that a region could have: K, or 1 where all classes share one.
      features: channels of the 3x3 convolutions; the transposed one has the last.
      norm: what follows each convolution; None for nothing.
      dtype: dtype of the computation; logits are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_masks: int
    features: tuple[int, ...] = (256, 256, 256, 256)
    norm: Norm | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, regions: Array, classes: Array, *, train: bool) -> Array:
        """Maps regions to logits of the mask of the class that each has.

        Args:
          regions: `[B, R, s, s, C]`.
          classes: int `[B, R]`; not looked at where all classes share one mask.
          train: whether statistics are those of the batch.

        Returns:
          Logits `[B, R, 2 s, 2 s]`.
        """
        x = convolve(self, together(regions), self.features, train=train)
        if self.num_masks == 1:
            classes = jnp.zeros_like(classes)
        # The map of twice the size is computed again for gradients instead of kept.
        logits = nn.remat(_scores)(self, x, classes.ravel()).astype(jnp.float32)
        return logits.reshape(*classes.shape, *logits.shape[1:])


def _scores(head: MaskHead, x: Array, classes: Array) -> Array:
    """Maps `[N, s, s, C]` and the classes `[N]` to `[N, 2 s, 2 s]`."""
    types = {"dtype": head.dtype, "param_dtype": head.param_dtype}
    x = nn.relu(UpConv(head.features[-1], **types, name="upsample")(x))
    return SelectClassMask(head.num_masks, **types, name="logits")(x, classes)


class KeypointHead(nn.Module):
    """A heatmap of each keypoint over each region, whose maximum is the point.

    Convolutions, a transposed one, and bilinear interpolation, each to twice the size.

    Attributes:
      num_keypoints: P.
      features: channels of the 3x3 convolutions.
      dtype: dtype of the computation; logits are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_keypoints: int
    features: tuple[int, ...] = (512,) * 8
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, regions: Array) -> Array:
        """Maps `[B, R, s, s, C]` to logits `[B, R, 4 s, 4 s, P]`."""
        x = together(regions)
        for i, features in enumerate(self.features):
            conv = Conv(
                features,
                padding=1,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"conv{i + 1}",
            )
            x = nn.relu(conv(x))
        shape = (4, 4, self.num_keypoints, x.shape[-1])
        incoming = 4 * x.shape[-1]
        std = math.sqrt(1 / incoming)
        kernel = self.param("kernel", normal(std), shape, self.param_dtype)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, shape[2:3], self.param_dtype)
        x = conv_transpose(
            x.astype(self.dtype), kernel.astype(self.dtype), stride=2, padding=1
        )
        x = (x + bias.astype(self.dtype)[None, None, None]).astype(jnp.float32)
        x = resize_bilinear(x, size=(2 * x.shape[1], 2 * x.shape[2]))
        return x.reshape(*regions.shape[:2], *x.shape[1:])


def on_valid(head: nn.Module, valid: Array, *slots: Array, **arguments: bool) -> Array:
    """Outputs of a head for regions; on a CPU empty slots are not computed.

    Args:
      head: bound to a network.
      valid: whether there is a region, `[B, R]`.
      *slots: what the head takes of each region, `[B, R, ...]`.
      **arguments: of the head.

    Returns:
      Logits `[B, R, ...]`, 0 where there is no region.
    """
    norm = getattr(head, "norm", None)
    if head.is_initializing() or (norm is not None and norm.kind == "batch"):
        # Statistics of a batch want all regions together.
        return head(*slots, **arguments)
    alone: Any = head.clone(parent=None, name=None)
    variables = {"params": head.variables["params"]}
    apply = functools.partial(alone.apply, variables, **arguments)
    return on_valid_slots(apply, valid, *slots)


def together(regions: Array) -> Array:
    """Regions of all images `[B, R, ...]` as one batch `[N, ...]`."""
    return regions.reshape(-1, *regions.shape[2:])


def convolve(
    head: BoxHead | MaskHead, x: Array, features: tuple[int, ...], *, train: bool
) -> Array:
    """Applies the 3x3 convolutions of a head, as its modules `conv1`, `conv2`, ..."""
    for i, channels in enumerate(features):
        conv = ConvNorm(
            channels,
            norm=head.norm,
            dtype=head.dtype,
            param_dtype=head.param_dtype,
            name=f"conv{i + 1}",
        )
        x = conv(x, train=train)
    return x
