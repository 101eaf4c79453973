"""MobileNetEdgeTPU, strided or dense.

There is no paper. The source is the authors' release (tensorflow/models,
research/slim/nets/mobilenet/mobilenet_v3.py, `V3_EDGETPU`), described in Howard & Gupta,
"Introducing the next generation of on-device vision models: MobileNetV3 and MobileNetEdgeTPU",
Google AI Blog, November 2019. Its first stages have full 3x3 convolutions in place of depthwise
ones, which the Edge TPU computes faster. A smaller output stride leaves strides out and dilates
what follows, with the same weights.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
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
    (True, 3, 1, 16, 1, 1),
    (True, 3, 8, 32, 1, 2),
    (True, 3, 4, 32, 3, 1),
    (True, 3, 8, 48, 1, 2),
    (True, 3, 4, 48, 3, 1),
    (False, 3, 8, 96, 1, 2),
    (False, 3, 4, 96, 3, 1),
    (False, 3, 8, 96, 1, 1),
    (False, 3, 4, 96, 3, 1),
    (False, 5, 8, 160, 1, 2),
    (False, 5, 4, 160, 3, 1),
    (False, 3, 8, 192, 1, 1),
)
"""Fused, kernel, expansion, output channels, blocks, and stride of the first of them. The input
is added in rows of an expansion of 4."""

RESIDUAL = 4
"""Expansion of the blocks whose input is added."""

OUTPUT_STRIDES = (8, 16, 32)


class Block(NamedTuple):
    """Arguments of one inverted residual, and the stage whose map it gives."""

    fused: bool
    kernel: int
    expanded: int
    features: int
    stride: int
    dilation: int
    is_residual: bool
    stage: str


class MobileNetEdgeTPU(nn.Module):
    """MobileNetEdgeTPU without, or with, its classifier: 4,092,713 parameters with it.

    Attributes:
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: 32, 16 or 8: pixels of the image from one pixel of the last map to
        the next.
      width: factor on the channels, which are rounded to multiples of 8 and at least 16;
        the release's "slim" has 0.75.
      last_features: channels of the 1x1 convolution at the end, whatever the width; None
        leaves it out.
      same_padding: whether zeros lie as in TensorFlow, which differs where a stride meets a
        map of even sides; `layers` describe odd ones.
      dropout_rate: fraction of the means dropped before the classifier.
      norm: what follows each convolution.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    output_stride: int = 32
    width: float = 1.0
    last_features: int | None = 1280
    same_padding: bool = False
    dropout_rate: float = 0.2
    norm: Norm = Norm(momentum=0.99, epsilon=1e-3)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(
                f"output_stride of MobileNetEdgeTPU is one of {OUTPUT_STRIDES}, got "
                f"{self.output_stride!r}"
            )
        for name in ("num_classes", "last_features"):
            if getattr(self, name) is not None:
                check_counts(**{name: getattr(self, name)})
        if self.width <= 0:
            raise ValueError(f"width is a factor above 0, got {self.width}")
        check_flags(same_padding=self.same_padding)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to `stage5`: the last maps at strides 2, 4, 8, 16 and 32, or at the
          output stride where that is smaller. With `num_classes` also `logits`
          `[B, num_classes]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norms = norm_options(self)
        padding = SAME if self.same_padding else None
        stem = ConvNorm(
            self.channels(32), stride=2, padding=padding, **norms, name="stem"
        )
        x = stem(image, train=train)
        stages: dict[str, Array] = {}
        for i, block in enumerate(self.plan(), 1):
            x = InvertedResidual(
                block.features,
                block.expanded,
                block.kernel,
                block.stride,
                block.dilation,
                block.is_residual,
                activation=nn.relu,
                fused=block.fused,
                padding=padding,
                **norms,
                name=f"block{i}",
            )(x, train=train)
            stages[block.stage] = x
        if self.last_features is not None:
            x = ConvNorm(self.last_features, (1, 1), **norms, name="last")(
                x, train=train
            )
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
        return max(16, divisible(channels * self.width))

    def plan(self) -> tuple[Block, ...]:
        """The blocks, with strides and dilations.

        Example:
          >>> [x.dilation for x in MobileNetEdgeTPU(output_stride=16).plan()[-5:]]
          [1, 2, 2, 2, 2]
        """
        blocks, nominal, reached, before = [], 2, 2, self.channels(32)
        for fused, kernel, expansion, channels, count, first_stride in TABLE:
            features = self.channels(channels)
            for i in range(count):
                stride = first_stride if i == 0 else 1
                rate = nominal // reached
                nominal *= stride
                taken = stride if reached * stride <= self.output_stride else 1
                reached *= taken
                blocks.append(
                    Block(
                        fused,
                        kernel,
                        expansion * before,
                        features,
                        taken,
                        rate,
                        expansion == RESIDUAL,
                        f"stage{nominal.bit_length() - 1}",
                    )
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
            raise ValueError(f"stage is one of stage1 to stage5, got {stage!r}")
        path, before = [Layer("stem/conv", 3, 2, 1)], self.channels(32)
        for i, block in enumerate(plan, 1):
            if block.stage > stage:
                break
            margin = block.kernel // 2 * block.dilation
            geometry = block.kernel, block.stride, margin, block.dilation
            if block.expanded != before:
                expand = geometry if block.fused else ()
                path.append(Layer(f"block{i}/expand/conv", *expand))
            if not block.fused:
                path.append(Layer(f"block{i}/depthwise/conv", *geometry))
            path.append(Layer(f"block{i}/project/conv"))
            before = block.features
        if stage == "stage5" and self.last_features is not None:
            path.append(Layer("last/conv"))
        return tuple(path)
