"""The blocks that residual networks are made of.

He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385, figure 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn

from segjax.layers.conv_norm import ConvNorm
from segjax.types import Array


@dataclass(frozen=True)
class Unit:
    """Where one block stands.

    Attributes:
      name: of the block within its stage, such as "block1".
      stride: of the block.
      entry_dilation: of the 3x3 convolution that strides or, in a dense network, would.
      dilation: of the 3x3 convolutions after it.
    """

    name: str
    stride: int
    entry_dilation: int
    dilation: int


def bottleneck_strides(stride: int, stride_on: str) -> tuple[int, int]:
    """Strides of a bottleneck's first 1x1 and of its 3x3 convolution.

    Example:
      >>> bottleneck_strides(2, "1x1"), bottleneck_strides(2, "3x3")
      ((2, 1), (1, 2))
    """
    return (stride, 1) if stride_on == "1x1" else (1, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left).

    Attributes:
      features: output channels.
      unit: the first convolution strides and has the entry's dilation.
      conv_norm: makes the convolutions.
    """

    features: int
    unit: Unit
    conv_norm: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        unit, shortcut = self.unit, x
        for name, options in (
            ("conv1", {"stride": unit.stride, "dilation": unit.entry_dilation}),
            ("conv2", {"dilation": unit.dilation, "activation": None}),
        ):
            conv = self.conv_norm(self.features, **options, name=name)
            x = conv(x, train=train)
        if shortcut.shape[-1] != self.features:
            projection = self.conv_norm(
                self.features, (1, 1), unit.stride, activation=None, name="projection"
            )
            shortcut = projection(shortcut, train=train)
        return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5, right).

    A shortcut without projection that strides takes every other pixel.

    Attributes:
      features: output channels; a quarter of them in between.
      unit: the 3x3 convolution has the entry's dilation, being the only one.
      stride_on: "1x1" if the first convolution strides; else the 3x3 does.
      conv_norm: makes the convolutions.
    """

    features: int
    unit: Unit
    stride_on: str
    conv_norm: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        stride, inner, shortcut = self.unit.stride, self.features // 4, x
        first, second = bottleneck_strides(stride, self.stride_on)
        dilation = self.unit.entry_dilation
        for name, features, kernel, options in (
            ("conv1", inner, 1, {"stride": first}),
            ("conv2", inner, 3, {"stride": second, "dilation": dilation}),
            ("conv3", self.features, 1, {"activation": None}),
        ):
            conv = self.conv_norm(features, (kernel, kernel), **options, name=name)
            x = conv(x, train=train)
        if shortcut.shape[-1] != self.features:
            projection = self.conv_norm(
                self.features, (1, 1), stride, activation=None, name="projection"
            )
            shortcut = projection(shortcut, train=train)
        else:
            shortcut = shortcut[:, ::stride, ::stride]
        return nn.relu(x + shortcut)


class Stage(nn.Module):
    """Blocks of one width.

    Attributes:
      features: output channels.
      units: the blocks.
      block: makes a block from features, unit and name.
    """

    features: int
    units: tuple[Unit, ...]
    block: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Maps `[B, H, W, C]` to what the last block makes, and what it was given."""
        before = x
        for unit in self.units:
            before = x
            x = self.block(self.features, unit, name=unit.name)(x, train=train)
        return x, before
