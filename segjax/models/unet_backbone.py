"""U-Net on a backbone: a classifier of images as the contracting path.

Iglovikov, Shvets 2018, "TernausNet: U-Net with VGG11 encoder pre-trained on ImageNet for image
segmentation", arXiv 1801.05746, is the first of the kind. The form here is that of
segmentation_models.pytorch (github.com/qubvel-org/segmentation_models.pytorch, `Unet`), which
has no paper: nothing is transposed, and each level has two convolutions.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax.numpy as jnp

from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.geometry.fields import Layer, output_size, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.geometry.paths import prefixed
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_flags,
    check_stage,
)
from segjax.layers.conv import Conv
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.models.unet import DoubleConv
from segjax.ops.resizing.resize import resize_nearest
from segjax.types import Array, Dtype, Outputs


class UNetBackbone(nn.Module):
    """A backbone, and a path back to the image that takes in its maps one by one.

    Each level enlarges by copying pixels, concatenates the backbone's next finer map, and
    convolves twice; the last one, at the image's size, has no map to take in.

    `Unet("resnet34", classes=1)` of segmentation_models.pytorch is
    `UNetBackbone(1, ResNet(34))`, 24,436,369 parameters. Its VGG is read before the poolings:
    `stages=("conv2", "conv3", "conv4", "conv5", "stage5")`, `center=True`.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps.
      stages: the maps that are used, from fine to coarse.
      features: channels of each level, from coarse to fine; as many as stages.
      center: whether two convolutions follow the coarsest map.
      norm: what follows each convolution, here and not in the backbone, of the kind
        "batch"; None for nothing.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    stages: tuple[str, ...] = ("stage1", "stage2", "stage3", "stage4", "stage5")
    features: tuple[int, ...] = (256, 128, 64, 32, 16)
    center: bool = False
    norm: Norm | None = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if len(self.features) != len(self.stages):
            raise ValueError(
                f"features holds one number for each of the stages {self.stages}, got "
                f"{self.features}"
            )
        for stage in self.stages:
            check_stage("stages", stage, self.backbone)
        check_flags(center=self.center)
        check_norm(self.norm, (*BATCH, None))
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def double_conv(x: Array, features: int, name: str) -> Array:
            block = DoubleConv(features, "SAME", self.norm, **types, name=name)
            return block(x, train=train)

        maps = self.backbone(image, train=train)
        *skips, x = (maps[stage] for stage in self.stages)
        if self.center:
            x = double_conv(x, x.shape[-1], "center")
        for i, features in zip(self._levels, self.features, strict=True):
            finer = skips[i - 2] if i > 1 else image
            x = resize_nearest(x, size=(finer.shape[1], finer.shape[2]))
            if i > 1:
                x = jnp.concatenate([x, finer], axis=-1)
            x = double_conv(x, features, f"up{i}")
        logits = Conv(self.num_classes, padding=1, **types, name="logits")(x)
        return {"logits": logits.astype(jnp.float32)}

    @property
    def _levels(self) -> range:
        """The levels from coarse to fine; level 1 is the image's size."""
        return range(len(self.stages), 0, -1)

    @property
    def _strides(self) -> list[int]:
        """Image pixels per pixel at each level, from the image on, and of the last map."""
        paths = (self.backbone.layers(stage) for stage in self.stages)
        return [1, *(round(receptive_field(path).stride) for path in paths)]

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image to the coarsest map and back to the logits."""

        def double_conv(name: str) -> list[Layer]:
            return [Layer(f"{name}/conv{i}", kernel=3, padding=1) for i in (1, 2)]

        path = [*prefixed("backbone", self.backbone.layers(self.stages[-1]))]
        if self.center:
            path += double_conv("center")
        strides = self._strides
        for i in self._levels:
            factor = strides[i] // strides[i - 1]
            if factor > 1:
                path.append(Layer(f"resize{i}", factor, factor, transposed=True))
            path += double_conv(f"up{i}")
        return (*path, Layer("logits", kernel=3, padding=1))

    @property
    def geometry(self) -> Geometry:
        """Every size, if maps round sizes up; else multiples of the coarsest map's stride."""
        strides, stride = self._strides, max(self._strides)
        geometry = padded_geometry(self.layers(), stride)
        if getattr(self.backbone, "same_padding", False):
            # Zeros lie one pixel further on each map whose side is even.
            geometry = dataclasses.replace(geometry, halo=(geometry.halo or 0) + stride)
        if sees_whole_image(self.backbone):
            geometry = dataclasses.replace(geometry, halo=None)
        paths = tuple(self.backbone.layers(stage) for stage in self.stages)
        doubled = all(b <= 2 * a for a, b in itertools.pairwise(strides))
        if doubled and rounds_up(paths, tuple(strides[1:])):
            return geometry
        return dataclasses.replace(geometry, minimum=stride, offset=0)


def sees_whole_image(backbone: nn.Module) -> bool:
    """Whether pixels of a backbone's maps depend on the whole image, not on a part.

    Groups of channels are normalised over the image, and squeeze and excitation averages it.

    Example:
      >>> from segjax.backbones.resnet import ResNet
      >>> sees_whole_image(ResNet()), sees_whole_image(ResNet(norm=Norm("group")))
      (False, True)
    """
    norm = getattr(backbone, "norm", None)
    by_groups = isinstance(norm, Norm) and norm.kind == "group"
    return by_groups or isinstance(backbone, MobileNetV3)


@functools.cache
def rounds_up(paths: tuple[tuple[Layer, ...], ...], strides: tuple[int, ...]) -> bool:
    """Whether every map of every image has its side, divided by the stride and rounded up.

    Copying pixels then takes each to where it came from, whatever the side.

    Args:
      paths: from the image to each map.
      strides: image pixels per pixel of each map.

    Returns:
      Whether it is so.

    Example:
      >>> floor, ceil = Layer("pool", 2, 2), Layer("pool", 2, 2, ceil_mode=True)
      >>> rounds_up(((floor,),), (2,)), rounds_up(((ceil,),), (2,))
      (False, True)
    """
    sides = range(max(strides), 2 * max(strides))
    return all(
        output_size(path, side) == -(-side // stride)
        for path, stride in zip(paths, strides, strict=True)
        for side in sides
    )
