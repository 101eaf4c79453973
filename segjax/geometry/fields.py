"""Sizes, receptive fields and exact input windows of a chain of layers.

A network is described along one axis by the layers of its longest path, and
everything here is integer arithmetic on that description: no array is touched. Images
have two axes; a network that treats them differently is described twice.

The rules are those of Dumoulin & Visin, "A guide to convolution arithmetic for deep
learning" (2016, arXiv 1603.07285), with the last pooling window as in Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Layer:
    """The geometry of one layer along one axis of its input.

    Pointwise layers need no mention. A crop is a layer of negative padding: taking 4
    pixels off both sides is `Layer("crop", padding=-4)`, and a crop that keeps what
    follows offset 19 up to 7 before the end is `Layer("crop", padding=(-19, -7))`.

    Attributes:
      name: what to call the layer in a table or in an error.
      kernel: number of taps.
      stride: step between windows; for a transposed layer, the factor by which it
        enlarges.
      padding: pixels added on each side, or (before, after). A transposed layer takes
        them away.
      dilation: spacing of the taps.
      transposed: whether the layer is a transposed convolution.
      output_padding: pixels added after the end; of transposed layers only.
      ceil_mode: whether a last window that hangs over the end counts, as in Caffe's
        pooling; it has to start inside the input or its left padding.
      operation: what becomes of the pixels under the kernel. Sizes do not depend on it.
    """

    name: str
    kernel: int = 1
    stride: int = 1
    padding: int | tuple[int, int] = 0
    dilation: int = 1
    transposed: bool = False
    output_padding: int = 0
    ceil_mode: bool = False
    operation: Literal["conv", "pool", "norm"] = "conv"

    def __post_init__(self) -> None:
        for field in ("kernel", "stride", "dilation"):
            value = getattr(self, field)
            if value < 1:
                raise ValueError(
                    f"{field} of layer {self.name!r} is {value}; it must be at least 1"
                )
        if self.transposed and self.ceil_mode:
            raise ValueError(
                f"ceil_mode of layer {self.name!r} is True, but a transposed layer has "
                "no last window to round; allowed is False"
            )
        allowed = range(max(self.stride, self.dilation)) if self.transposed else (0,)
        if self.output_padding not in allowed:
            raise ValueError(
                f"output_padding of layer {self.name!r} is {self.output_padding}; "
                f"allowed is 0 to {allowed[-1]}"
            )

    @property
    def pads(self) -> tuple[int, int]:
        """Padding before and after."""
        if isinstance(self.padding, int):
            return self.padding, self.padding
        before, after = self.padding
        return before, after

    @property
    def extent(self) -> int:
        """Distance from the first to the last tap, plus one."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of one output pixel, in input pixels.

    Attributes:
      size: input pixels from the first to the last that an output pixel depends on;
        the largest over all output pixels, since behind a transposed layer they
        differ.
      smallest: the same, the smallest over all output pixels.
      stride: distance in the input of neighbouring output pixels.
      centre: where the middle of output pixel 0 lies, in pixels from the middle of
        input pixel 0; negative when padding shifts it outside.
    """

    size: int
    smallest: int
    stride: float
    centre: float

    @property
    def crop_offset(self) -> float:
        """Output pixels to drop at the start so that the next sits on input pixel 0."""
        return -self.centre / self.stride


def output_size(layers: Sequence[Layer], size: int) -> int:
    """Computes how many output pixels `size` input pixels give.

    Args:
      layers: the network along its longest path, from the input on.
      size: pixels of the input.

    Returns:
      Pixels of the output.

    Raises:
      ValueError: if `size` is too small for one of the layers.

    Example:
      >>> output_size([Layer("conv", kernel=3), Layer("pool", 2, stride=2)], 572)
      285
    """
    for layer in layers:
        before, after = layer.pads
        if layer.transposed:
            grown = layer.stride * (size - 1) + layer.extent
            result = grown - before - after + layer.output_padding
        else:
            room = size + before + after - layer.extent
            result = room // layer.stride + 1
            if layer.ceil_mode:
                result = -(-room // layer.stride) + 1
                if (result - 1) * layer.stride >= size + before:
                    result -= 1
        if size < 1 or result < 1:
            raise ValueError(
                f"size leaves {size} pixels at layer {layer.name!r}, which needs at "
                f"least {_least(layer)}; the input has to be larger"
            )
        size = result
    return size


def _least(layer: Layer) -> int:
    """The smallest input of a layer that gives one output pixel."""
    missing = sum(layer.pads) - layer.extent
    if layer.transposed:
        return max(
            1, 1 + math.ceil((missing + 1 - layer.output_padding) / layer.stride)
        )
    return max(1, -missing)


def input_window(layers: Sequence[Layer], start: int, stop: int) -> tuple[int, int]:
    """Computes which input pixels the output pixels `[start, stop)` depend on.

    The answer is exact: the first and the last pixel of it do matter, phase by phase
    behind transposed layers too. Padding counts as if the input went on beyond its
    borders, so the window may begin below 0 or end beyond the input.

    Args:
      layers: the network along its longest path, from the input on.
      start: first output pixel.
      stop: one after the last output pixel.

    Returns:
      First input pixel, and one after the last. Where nothing is depended on (behind
      a transposed layer whose stride exceeds its kernel), both are 0.

    Raises:
      ValueError: if the window of output pixels is empty.

    Example:
      >>> layers = [Layer("conv1", kernel=3), Layer("conv2", kernel=3)]
      >>> input_window(layers, 0, 10)
      (0, 14)
    """
    if stop <= start:
        raise ValueError(f"stop is {stop}; it must be larger than start, {start}")
    pixels = np.arange(start, stop)
    for layer in reversed(layers):
        before, _ = layer.pads
        taps = layer.dilation * np.arange(layer.kernel)
        if layer.transposed:
            reached = pixels[:, None] + before - taps
            pixels = reached[reached % layer.stride == 0] // layer.stride
        else:
            pixels = (pixels[:, None] * layer.stride - before + taps).ravel()
        pixels = np.unique(pixels)
    if not pixels.size:
        return 0, 0
    return int(pixels[0]), int(pixels[-1]) + 1


def receptive_field(layers: Sequence[Layer]) -> ReceptiveField:
    """Computes size, stride and centre of the receptive field.

    Args:
      layers: the network along its longest path, from the input on.

    Returns:
      The receptive field, in input pixels.

    Example:
      >>> field = receptive_field([Layer("conv", 3), Layer("pool", 2, stride=2)])
      >>> field.size, field.stride, field.centre
      (4, 2.0, 1.5)
    """
    stride, centre, period = Fraction(1), Fraction(0), 1
    for layer in layers:
        middle = Fraction(layer.extent - 1, 2) - layer.pads[0]
        if layer.transposed:
            stride /= layer.stride
            centre -= middle * stride
            period *= layer.stride
        else:
            centre += middle * stride
            stride *= layer.stride
            period //= math.gcd(period, layer.stride)
    windows = [input_window(layers, i, i + 1) for i in range(period)]
    sizes = [stop - start for start, stop in windows]
    return ReceptiveField(max(sizes), min(sizes), float(stride), float(centre))
