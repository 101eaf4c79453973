"""MobileNet v3-large, strided or dense.

Howard et al., ICCV 2019, arXiv 1905.02244, table 1; torchvision's form. A smaller output
stride leaves strides out and dilates what follows, with the same weights (section 6.4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.initializers import he_normal
from segjax.layers.inverted_residual import InvertedResidual, divisible
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.types import Array, Dtype

TABLE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
"""Kernel, expanded and output channels, squeeze and excitation, activation, stride."""

ACTIVATIONS = {"relu": nn.relu, "hard_swish": jax.nn.hard_swish}

OUTPUT_STRIDES = (8, 16, 32)


class Block(NamedTuple):
    """Arguments of one inverted residual, and the stage whose map it gives."""

    kernel: int
    expanded: int
    features: int
    squeezed: int | None
    activation: str
    stride: int
    dilation: int
    is_residual: bool
    stage: str


class MobileNetV3(nn.Module):
    """MobileNet v3-large without, or with, its classifier: 5,483,032 parameters with it.

    Attributes:
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: 32, 16 or 8: pixels of the image from one pixel of the last map to
        the next.
      dilate_first_block: whether a block whose stride is left out is dilated itself, as
        in torchvision; else it keeps the dilation of the block before, and the dense
        map holds the strided one, pixel for pixel.
      width: factor on the channels, which are rounded to multiples of 8.
      classifier_features: channels between the two layers of the classifier.
      dropout_rate: fraction of them dropped.
      norm: what follows each convolution.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    output_stride: int = 32
    dilate_first_block: bool = False
    width: float = 1.0
    classifier_features: int = 1280
    dropout_rate: float = 0.2
    norm: Norm = Norm(momentum=0.99, epsilon=1e-3)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(
                f"output_stride of MobileNet v3 is one of {OUTPUT_STRIDES}, got "
                f"{self.output_stride!r}"
            )
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        check_counts(classifier_features=self.classifier_features)
        if self.width <= 0:
            raise ValueError(f"width is a factor above 0, got {self.width}")
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to `stage5`: the last maps at strides 2, 4, 8, 16 and 32, or at the
          output stride where that is smaller; `stage2_first` to `stage5_first`: the
          first ones, of which torchvision's heads read some. With `num_classes` also
          `logits` `[B, num_classes]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norms = norm_options(self)
        conv_norm: Callable[..., ConvNorm] = partial(
            ConvNorm, activation=jax.nn.hard_swish, **norms
        )
        stem = conv_norm(divisible(16 * self.width), stride=2, name="stem")
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
                block.squeezed,
                ACTIVATIONS[block.activation],
                **norms,
                name=f"block{i}",
            )(x, train=train)
            if block.stage != "stage1":
                stages.setdefault(f"{block.stage}_first", x)
            stages[block.stage] = x
        x = conv_norm(6 * x.shape[-1], (1, 1), name="last")(x, train=train)
        stages["stage5"] = x
        if self.num_classes is not None:
            dense: Callable[..., nn.Dense] = partial(
                nn.Dense, kernel_init=he_normal(), **types
            )
            x = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            x = dense(self.classifier_features, name="classifier_hidden")(x)
            x = jax.nn.hard_swish(x)
            drop = nn.Dropout(
                self.dropout_rate, deterministic=not train, name="dropout"
            )
            x = dense(self.num_classes, name="classifier")(drop(x))
            stages["logits"] = x.astype(jnp.float32)
        return stages

    def plan(self) -> tuple[Block, ...]:
        """The blocks, with strides and dilations.

        Example:
          >>> [block.dilation for block in MobileNetV3(output_stride=16).plan()[-3:]]
          [1, 2, 2]
        """
        blocks, nominal, reached, before = [], 2, 2, divisible(16 * self.width)
        for kernel, wide, channels, squeezes, activation, stride in TABLE:
            expanded = divisible(wide * self.width)
            features = divisible(channels * self.width)
            rate = nominal // reached
            nominal *= stride
            taken = stride if reached * stride <= self.output_stride else 1
            reached *= taken
            if self.dilate_first_block:
                rate = nominal // reached
            squeezed = divisible(expanded // 4) if squeezes else None
            is_residual = stride == 1 and before == features
            stage = f"stage{nominal.bit_length() - 1}"
            sizes = kernel, expanded, features, squeezed, activation
            blocks.append(Block(*sizes, taken, rate, is_residual, stage))
            before = features
        return tuple(blocks)

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path from the image to a stage.

        Raises:
          ValueError: if there is no such stage.
        """
        plan = self.plan()
        name, _, first = stage.partition("_")
        known = {block.stage for block in plan}
        if name not in known or first not in ("", "first") or stage == "stage1_first":
            raise ValueError(
                f"stage is one of stage1 to stage5 or stage2_first to stage5_first, got "
                f"{stage!r}"
            )
        path, before = [Layer("stem/conv", 3, 2, 1)], divisible(16 * self.width)
        for i, block in enumerate(plan, 1):
            if block.stage > name:
                break
            if block.expanded != before:
                path.append(Layer(f"block{i}/expand/conv"))
            depthwise = f"block{i}/depthwise/conv"
            margin = block.kernel // 2 * block.dilation
            geometry = block.kernel, block.stride, margin, block.dilation
            path.append(Layer(depthwise, *geometry))
            path.append(Layer(f"block{i}/project/conv"))
            if first and block.stage == name:
                break
            before = block.features
        if stage == "stage5":
            path.append(Layer("last/conv"))
        return tuple(path)
