"""Aligned Xception, as modified for DeepLab: Xception-41 and Xception-65.

Chollet, CVPR 2017, arXiv 1610.02357; Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018,
arXiv 1802.02611, section 3.2 and figure 4. What the figure leaves open (norms, where the
ReLUs stand, rates) is as in the authors' release, tensorflow/models research/deeplab.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.initializers import he_normal
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.layers.separable import SeparableConvNorm
from segjax.types import Array, Dtype

MIDDLE_BLOCKS = {41: 8, 65: 16}
"""Blocks of the middle flow, by depth."""

OUTPUT_STRIDES = (8, 16, 32)


class Unit(NamedTuple):
    """One block of three separable convolutions.

    Attributes:
      name: of its parameters.
      features: output channels of the three.
      skip: "conv", "sum" or "none": what is added at the end.
      stride: of the third, and of the skip.
      rates: dilations of the three.
      stage: the stage that the second one's result is, the last before the stride;
        None where the block belongs to no border of stages.
    """

    name: str
    features: tuple[int, int, int]
    skip: str
    stride: int
    rates: tuple[int, int, int]
    stage: str | None = None


class XceptionBlock(nn.Module):
    """Three separable convolutions with a shortcut.

    A ReLU stands before each, so that what is added up is not rectified; without a
    shortcut ReLUs follow both steps of each instead.

    Attributes:
      unit: sizes, strides, rates.
      separable: makes a separable convolution.
      conv_norm: makes a convolution with norm.
    """

    unit: Unit
    separable: Callable[..., nn.Module]
    conv_norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Returns the sum, and the result of the second convolution."""
        unit, before = self.unit, x
        inside = unit.skip == "none"
        results = []
        for i, (features, rate) in enumerate(
            zip(unit.features, unit.rates, strict=True), 1
        ):
            conv = self.separable(
                features,
                stride=unit.stride if i == 3 else 1,
                dilation=rate,
                activation=nn.relu if inside else None,
                name=f"separable{i}",
            )
            x = conv(x if inside else nn.relu(x), train=train)
            results.append(x)
        if unit.skip == "conv":
            shortcut = self.conv_norm(
                unit.features[-1], (1, 1), unit.stride, activation=None, name="shortcut"
            )
            x = x + shortcut(before, train=train)
        elif unit.skip == "sum":
            x = x + before
        return x, results[1]


class Xception(nn.Module):
    """Xception-65 without, or with, its classifier: 37,867,312 parameters without.

    Initial weights are He's, and not the release's truncated normal ones.

    Attributes:
      depth: 65, or 41 with half of the middle flow.
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: 32, 16 or 8: pixels of the image from one pixel of the last map to
        the next. Weights are the same: what follows a stride left out is dilated.
      multi_grid: factors on the dilations of the last three convolutions.
      width: factor on the channels of all layers.
      norm: what follows each convolution.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    depth: int = 65
    num_classes: int | None = None
    output_stride: int = 32
    multi_grid: tuple[int, int, int] = (1, 1, 1)
    width: float = 1.0
    norm: Norm = Norm(momentum=0.9997, epsilon=1e-3)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        for name, allowed in (
            ("depth", tuple(MIDDLE_BLOCKS)),
            ("output_stride", OUTPUT_STRIDES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"{name} of Xception is one of {allowed}, got {value!r}"
                )
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        check_counts(multi_grid=self.multi_grid)
        if len(self.multi_grid) != 3:
            raise ValueError(f"multi_grid is three numbers, got {self.multi_grid}")
        if self.width <= 0:
            raise ValueError(f"width is a factor above 0, got {self.width}")
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to `stage5`: the last maps at strides 2, 4, 8, 16 and 32, or at the
          output stride where that is smaller; all but the last are what stands before a
          block's stride, not rectified (`stage2` is what DeepLab v3+'s decoder takes
          in). With `num_classes` also `logits` `[B, num_classes]`.
        """
        common = norm_options(self)
        conv_norm: Callable[..., ConvNorm] = partial(ConvNorm, **common)
        separable: Callable[..., SeparableConvNorm] = partial(
            SeparableConvNorm, **common
        )
        x = conv_norm(self._scaled(32), stride=2, name="conv1")(image, train=train)
        x = conv_norm(self._scaled(64), name="conv2")(x, train=train)
        stages = {}
        for unit in self.plan():
            block = XceptionBlock(unit, separable, conv_norm, name=unit.name)
            x, inner = block(x, train=train)
            if unit.stage is not None:
                stages[unit.stage] = inner
        stages["stage5"] = x
        if self.num_classes is not None:
            mean = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            classifier = nn.Dense(
                self.num_classes,
                kernel_init=he_normal(),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="classifier",
            )
            stages["logits"] = classifier(mean).astype(jnp.float32)
        return stages

    def plan(self) -> tuple[Unit, ...]:
        """The blocks, with strides and rates.

        A stride that would exceed the output stride is left out, and multiplies the
        rate of all blocks that follow.

        Example:
          >>> [(unit.stride, unit.rates) for unit in Xception(output_stride=16).plan()[-2:]]
          [(1, (1, 1, 1)), (1, (2, 2, 2))]
        """
        middle = MIDDLE_BLOCKS[self.depth]
        nominal: list[tuple[str, tuple[int, int, int], str, int, str | None]] = [
            ("entry1", (128, 128, 128), "conv", 2, "stage1"),
            ("entry2", (256, 256, 256), "conv", 2, "stage2"),
            ("entry3", (728, 728, 728), "conv", 2, "stage3"),
            *(
                (f"middle{i + 1}", (728, 728, 728), "sum", 1, None)
                for i in range(middle)
            ),
            ("exit1", (728, 1024, 1024), "conv", 2, "stage4"),
            ("exit2", (1536, 1536, 2048), "none", 1, None),
        ]
        units, reached, rate = [], 2, 1
        for name, features, skip, stride, stage in nominal:
            grid = self.multi_grid if name == "exit2" else (1, 1, 1)
            first, second, third = (rate * factor for factor in grid)
            scaled = (self._scaled(features[0]), self._scaled(features[1]))
            taken = stride if reached * stride <= self.output_stride else 1
            units.append(
                Unit(
                    name,
                    (*scaled, self._scaled(features[2])),
                    skip,
                    taken,
                    (first, second, third),
                    stage,
                )
            )
            reached *= taken
            rate *= stride // taken
        return tuple(units)

    def _scaled(self, features: int) -> int:
        return max(1, round(self.width * features))

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path from the image to a stage.

        Raises:
          ValueError: if there is no such stage.
        """
        if stage not in {f"stage{i}" for i in range(1, 6)}:
            raise ValueError(f"stage is one of stage1 to stage5, got {stage!r}")
        path = [Layer("conv1/conv", 3, 2, 1), Layer("conv2/conv", 3, 1, 1)]
        for unit in self.plan():
            for i, rate in enumerate(unit.rates, 1):
                name, stride = f"{unit.name}/separable{i}", unit.stride if i == 3 else 1
                path.append(Layer(f"{name}/depthwise/conv", 3, stride, rate, rate))
                path.append(Layer(f"{name}/pointwise/conv"))
                if i == 2 and unit.stage == stage:
                    return tuple(path)
        return tuple(path)
