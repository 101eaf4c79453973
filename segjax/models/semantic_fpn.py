"""Semantic FPN: a feature pyramid whose maps are brought to one size and added.

Kirillov, Girshick, He, Dollár, CVPR 2019, "Panoptic feature pyramid networks", arXiv
1901.02446, section 3.1 and figure 3: the branch that labels pixels.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.geometry.paths import enlargement, prefixed
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_flags,
    check_fractions,
    check_stage,
)
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.fpn import FPN
from segjax.layers.norm import KINDS, Norm, check_norm
from segjax.models.unet_backbone import sees_whole_image
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs

FINEST = 2
"""The level of the pyramid, of stride 4, to which the others are brought."""


class SemanticFPN(nn.Module):
    """A pyramid; each level convolved and enlarged by 2 until it is the finest; the sum.

    The paper's own: `ResNet(101)`. `FPN("resnet50")` of segmentation_models.pytorch is
    `output_convs=False`, `align_corners=True` and `dropout_rate=0.2` on `ResNet(50)`.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps.
      stages: the maps at strides 4, 8, 16 and 32.
      pyramid_features: channels of the pyramid.
      features: channels of the branches behind it.
      output_convs: whether the pyramid's maps are convolved once more, as Lin et al. do.
      align_corners: how maps are interpolated.
      dropout_rate: fraction of the channels of the sum dropped in training.
      norm: what follows each convolution of the branches.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    stages: tuple[str, ...] = ("stage2", "stage3", "stage4", "stage5")
    pyramid_features: int = 256
    features: int = 128
    output_convs: bool = True
    align_corners: bool = False
    dropout_rate: float = 0.0
    norm: Norm = Norm("group")
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes,
            pyramid_features=self.pyramid_features,
            features=self.features,
        )
        check_flags(output_convs=self.output_convs, align_corners=self.align_corners)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, KINDS)
        if self.norm.kind == "group" and self.features % self.norm.groups:
            raise ValueError(
                f"features is {self.features}, which norm.groups, {self.norm.groups}, "
                "does not divide"
            )
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        for stage in self.stages:
            check_stage("stages", stage, self.backbone)
        if self._strides != [4, 8, 16, 32]:
            raise ValueError(
                f"stages {self.stages} are at strides {self._strides}; they have to be at "
                "4, 8, 16 and 32"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        maps = self.backbone(image, train=train)
        pyramid = FPN(
            self.pyramid_features,
            extra_level=False,
            output_convs=self.output_convs,
            **types,
            name="pyramid",
        )([maps[stage] for stage in self.stages], train=train)
        sizes = [(x.shape[1], x.shape[2]) for x in pyramid]
        branches = []
        for level, x in enumerate(pyramid, FINEST):
            for i in range(1, _convolutions(level) + 1):
                conv = ConvNorm(
                    self.features, **norm_options(self), name=f"branch{level}_{i}"
                )
                x = conv(x, train=train)
                if level > FINEST:
                    x = self._resize(x, sizes[level - FINEST - i])
            branches.append(x)
        x = sum(branches[1:], branches[0])
        dropout = nn.Dropout(
            self.dropout_rate,
            broadcast_dims=(1, 2),
            deterministic=not train,
            name="dropout",
        )
        logits = Conv(self.num_classes, (1, 1), **types, name="logits")(dropout(x))
        logits = logits.astype(jnp.float32)
        return {"logits": self._resize(logits, (image.shape[1], image.shape[2]))}

    def _resize(self, x: Array, size: tuple[int, int]) -> Array:
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    @property
    def _strides(self) -> list[int]:
        paths = (self.backbone.layers(stage) for stage in self.stages)
        return [round(receptive_field(path).stride) for path in paths]

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, through the coarsest level, for sides of multiples of 32."""
        level = FINEST + len(self.stages) - 1
        path = [*prefixed("backbone", self.backbone.layers(self.stages[-1]))]
        path.append(Layer(f"pyramid/lateral{level}/conv"))
        if self.output_convs:
            path.append(Layer(f"pyramid/output{level}/conv", kernel=3, padding=1))
        for i in range(1, _convolutions(level) + 1):
            path.append(Layer(f"branch{level}_{i}/conv", kernel=3, padding=1))
            path.append(enlargement(f"resize{level}_{i}", 2))
        return (*path, Layer("logits"), enlargement("resize", self._strides[0]))

    @property
    def geometry(self) -> Geometry:
        """Multiples of 32; each pixel sees the whole image, unless no statistics are its."""
        stride = self._strides[-1]
        if (
            self.align_corners
            or self.norm.kind == "group"
            or sees_whole_image(self.backbone)
        ):
            return Geometry(stride, halo=None, minimum=stride, offset=0)
        geometry = padded_geometry(self.layers(), stride)
        return dataclasses.replace(geometry, minimum=stride, offset=0)


def _convolutions(level: int) -> int:
    """Convolutions of a level's branch: one for each doubling, at least one."""
    return max(1, level - FINEST)
