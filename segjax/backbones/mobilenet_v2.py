"""MobileNet v2, strided or dense.

Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, arXiv 1801.04381, table 2; torchvision's
form. A smaller output stride is that of DeepLab (section 6.3): strides are left out, and
what follows is dilated, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_flags,
    check_fractions,
)
from segjax.layers.conv_norm import SAME, ConvNorm, norm_options
from segjax.layers.initializers import he_normal
from segjax.layers.inverted_residual import InvertedResidual, divisible
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.types import Array, Dtype

TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks, and stride of the first of them."""

OUTPUT_STRIDES = (8, 16, 32)
LAST_STAGES = tuple(f"stage{i}" for i in range(1, 6))


class Block(NamedTuple):
    """Arguments of one inverted residual, and the stage whose map it gives."""

    features: int
    expansion: int
    stride: int
    dilation: int
    is_residual: bool
    stage: str


class MobileNetV2(nn.Module):
    """MobileNet v2 without, or with, its classifier: 3,504,872 parameters with it.

    Attributes:
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: 32, 16 or 8: pixels of the image from one pixel of the last map to
        the next.
      dilate_first_block: whether a block whose stride is left out is dilated itself;
        else it keeps the dilation of the block before, and the dense map holds the
        strided one, pixel for pixel.
      last_stage: "stage5", or the stage behind which the network ends.
      width: factor on the channels.
      divisor: channels are rounded to its multiples; DeepLab's release has 1 below a width
        of 1.
      last_features: channels of the 1x1 convolution at the end, at least; None leaves
        it out, as DeepLab's release does.
      same_padding: whether zeros lie as in TensorFlow, which differs where a stride meets a
        map of even sides; `layers` describe odd ones.
      dropout_rate: fraction of the means dropped before the classifier.
      norm: what follows each convolution.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    output_stride: int = 32
    dilate_first_block: bool = False
    last_stage: str = "stage5"
    width: float = 1.0
    divisor: int = 8
    last_features: int | None = 1280
    same_padding: bool = False
    dropout_rate: float = 0.2
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(
                f"output_stride of MobileNet v2 is one of {OUTPUT_STRIDES}, got "
                f"{self.output_stride!r}"
            )
        if self.last_stage not in LAST_STAGES:
            raise ValueError(
                f"last_stage of MobileNet v2 is one of {LAST_STAGES}, got "
                f"{self.last_stage!r}"
            )
        for name in ("num_classes", "last_features"):
            if getattr(self, name) is not None:
                check_counts(**{name: getattr(self, name)})
        check_counts(divisor=self.divisor)
        if self.width <= 0:
            raise ValueError(f"width is a factor above 0, got {self.width}")
        check_flags(
            same_padding=self.same_padding, dilate_first_block=self.dilate_first_block
        )
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to the last stage, `stage5`: the last maps at strides 2, 4, 8, 16 and
          32, or at the output stride where that is smaller. With `num_classes` also
          `logits` `[B, num_classes]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norms = norm_options(self)
        conv_norm: Callable[..., ConvNorm] = partial(
            ConvNorm, activation=jax.nn.relu6, **norms
        )
        padding = SAME if self.same_padding else None
        stem = conv_norm(self.channels(32), stride=2, padding=padding, name="stem")
        x = stem(image, train=train)
        stages: dict[str, Array] = {}
        for i, block in enumerate(self.plan(), 1):
            x = InvertedResidual(
                block.features,
                block.expansion * x.shape[-1],
                stride=block.stride,
                dilation=block.dilation,
                is_residual=block.is_residual,
                padding=padding,
                **norms,
                name=f"block{i}",
            )(x, train=train)
            stages[block.stage] = x
        if self.last_features is not None and self.last_stage == "stage5":
            features = divisible(self.last_features * max(1.0, self.width))
            x = conv_norm(features, (1, 1), name="last")(x, train=train)
            stages["stage5"] = x
        if self.num_classes is not None:
            mean = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            drop = nn.Dropout(
                self.dropout_rate, deterministic=not train, name="dropout"
            )
            classifier = nn.Dense(
                self.num_classes, kernel_init=he_normal(), **types, name="classifier"
            )
            stages["logits"] = classifier(drop(mean)).astype(jnp.float32)
        return stages

    def channels(self, channels: int) -> int:
        """The channels of a layer that has so many at a width of 1."""
        return divisible(channels * self.width, self.divisor)

    def plan(self) -> tuple[Block, ...]:
        """The blocks, with strides and dilations.

        Example:
          >>> [block.dilation for block in MobileNetV2(output_stride=16).plan()[-4:]]
          [1, 2, 2, 2]
        """
        blocks: list[Block] = []
        nominal, reached, before = 2, 2, self.channels(32)
        for expansion, channels, count, first_stride in TABLE:
            features = self.channels(channels)
            for i in range(count):
                stride = first_stride if i == 0 else 1
                dilation = nominal // reached
                nominal *= stride
                taken = stride if reached * stride <= self.output_stride else 1
                reached *= taken
                if self.dilate_first_block:
                    dilation = nominal // reached
                is_residual = stride == 1 and before == features
                stage = f"stage{nominal.bit_length() - 1}"
                if stage > self.last_stage:
                    return tuple(blocks)
                blocks.append(
                    Block(features, expansion, taken, dilation, is_residual, stage)
                )
                before = features
        return tuple(blocks)

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path from the image to a stage.

        Raises:
          ValueError: if there is no such stage.
        """
        plan = self.plan()
        if stage not in {block.stage for block in plan}:
            raise ValueError(
                f"stage is one of stage1 to {self.last_stage}, got {stage!r}"
            )
        path = [Layer("stem/conv", 3, 2, 1)]
        for i, block in enumerate(plan, 1):
            if block.stage > stage:
                break
            if block.expansion != 1:
                path.append(Layer(f"block{i}/expand/conv"))
            rate = block.dilation
            depthwise = f"block{i}/depthwise/conv"
            path.append(Layer(depthwise, 3, block.stride, rate, rate))
            path.append(Layer(f"block{i}/project/conv"))
        if stage == "stage5" and self.last_features is not None:
            path.append(Layer("last/conv"))
        return tuple(path)
