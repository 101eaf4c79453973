"""Residual networks: ResNet-18, 34, 50, 101 and 152, dense or strided.

He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385, table 1. Three families of weights are
in use, and they differ where the paper is silent (`stem`, `stem_pool`, `stride_on`):

    torchvision ("v1.5")        conv7, floor, 3x3; this is the default
    MSRA, Caffe (DeepLab v2)    conv7, ceil,  1x1
    PSPNet                      deep,  ceil,  1x1
    TensorFlow beta (DeepLab)   deep,  floor, last

A smaller output stride keeps all weights: a stage that no longer strides has its 3x3
kernels dilated instead (Chen et al. 2017, arXiv 1706.05587, section 3.1). The dense maps
then hold the strided ones, pixel for pixel, if each convolution is dilated that comes
*after* the one that strode: all of the first block's with `stride_on="1x1"`
(`dilate_first_block=True`, the papers' rule), and all but the first block's 3x3 with
`stride_on="3x3"` (torchvision's rule). With "last" there is no choice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.backbones.residual import (
    BasicBlock,
    Bottleneck,
    Stage,
    Unit,
    bottleneck_strides,
)
from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_dtypes
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.initializers import he_normal
from segjax.layers.norm import KINDS, Norm, check_norm
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

BLOCKS = {
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks of `stage2` to `stage5`, by depth; 26 is not in the paper, but in timm."""

BASIC = (18, 34)
"""Depths whose blocks are two 3x3 convolutions; the others have bottlenecks."""

STEMS = {
    "conv7": (("stem", 7, 2, 1),),
    "deep": (("stem1", 3, 2, 1), ("stem2", 3, 1, 1), ("stem3", 3, 1, 2)),
}
"""Convolutions before the first pooling: name, kernel, stride, multiple of `features`."""

STEM_POOLS = {"floor": (1, False), "ceil": (1, True), "ceil_unpadded": (0, True)}
"""Padding of the 3x3 max pooling of stride 2, and whether its size is rounded up."""

STRIDE_ON = ("3x3", "1x1", "last")
OUTPUT_STRIDES = (8, 16, 32)
LAST_STAGES = tuple(f"stage{i}" for i in range(1, 6))


class ResNet(nn.Module):
    """A residual network without, or with, its classifier.

    Attributes:
      depth: layers with weights: 18, 26, 34, 50, 101 or 152.
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: 32, 16 or 8: pixels of the image from one pixel of the last map to
        the next.
      multi_grid: factors on the dilation of each block of `stage5`, such as (1, 2, 4)
        (DeepLab v3, section 3.3); empty is all 1.
      stem: "conv7" or "deep", three 3x3 convolutions.
      stem_pool: the pooling behind the stem: "floor" and "ceil" pad by 1 and round the
        size down or up, "ceil_unpadded" (Caffe's classifiers) rounds up only.
      stride_on: what strides in a stage that does: the "3x3" or the first "1x1" of the
        first block, or the 3x3 of the "last" block of the stage before, whose shortcut
        then takes every other pixel. Basic blocks have "3x3" only, their first.
      dilate_first_block: whether in a stage that is dilated instead of strided the
        first 3x3 is dilated, too.
      last_stage: "stage5", or the stage behind which the network ends.
      features: channels of the stem's first convolution; all others are multiples.
      norm: what follows each convolution: of the kind "batch", or "group", which wants
        no batch.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    depth: int = 50
    num_classes: int | None = None
    output_stride: int = 32
    multi_grid: tuple[int, ...] = ()
    stem: str = "conv7"
    stem_pool: str = "floor"
    stride_on: str = "3x3"
    dilate_first_block: bool = False
    last_stage: str = "stage5"
    features: int = 64
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        for name, allowed in (
            ("depth", tuple(BLOCKS)),
            ("output_stride", OUTPUT_STRIDES),
            ("stem", tuple(STEMS)),
            ("stem_pool", tuple(STEM_POOLS)),
            ("stride_on", STRIDE_ON),
            ("last_stage", LAST_STAGES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} of ResNet is one of {allowed}, got {value!r}")
        if self.depth in BASIC and self.stride_on != "3x3":
            raise ValueError(
                f'stride_on of ResNet-{self.depth} is "3x3", for it has no bottlenecks, '
                f"got {self.stride_on!r}"
            )
        blocks = BLOCKS[self.depth][-1]
        if (
            len(self.multi_grid) not in (0, blocks)
            or min(self.multi_grid, default=1) < 1
        ):
            raise ValueError(
                f"multi_grid of ResNet-{self.depth} is {blocks} numbers of at least 1, or "
                f"none, got {self.multi_grid}"
            )
        if self.features < 1:
            raise ValueError(f"features is at least 1, got {self.features}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes is at least 1, got {self.num_classes}")
        check_norm(self.norm, KINDS)
        if self.norm.kind == "group" and self.features % self.norm.groups:
            raise ValueError(
                f"features is {self.features}, which norm.groups, {self.norm.groups}, "
                "does not divide"
            )
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1`, the stem's map before the pooling, to the last stage, `stage5`: the
          last maps at strides 2, 4, 8, 16 and 32, or at the output stride where that is
          smaller. With `num_classes` also `logits` `[B, num_classes]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv_norm: Callable[..., ConvNorm] = partial(ConvNorm, **norm_options(self))
        x, stages = image, {}
        for name, kernel, stride, multiple in STEMS[self.stem]:
            features = multiple * self.features
            layer = conv_norm(features, (kernel, kernel), stride, name=name)
            x = layer(x, train=train)
        stages["stage1"] = x
        padding, ceil_mode = STEM_POOLS[self.stem_pool]
        x = max_pool(x, window=3, stride=2, padding=padding, ceil_mode=ceil_mode)
        block: Callable[..., nn.Module]
        if self.depth in BASIC:
            block = partial(BasicBlock, conv_norm=conv_norm)
            features = self.features
        else:
            block = partial(Bottleneck, stride_on=self.stride_on, conv_norm=conv_norm)
            features = 4 * self.features
        for name, units in self.plan().items():
            x, before = Stage(features, units, block, name=name)(x, train=train)
            strides = self.stride_on == "last" and name != self.last_stage
            stages[name] = before if strides else x
            features *= 2
        if self.num_classes is not None:
            mean = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            classifier = nn.Dense(
                self.num_classes, kernel_init=he_normal(), **types, name="classifier"
            )
            stages["logits"] = classifier(mean).astype(jnp.float32)
        return stages

    def plan(self) -> dict[str, tuple[Unit, ...]]:
        """Stride and dilations of each block, by stage.

        Example:
          >>> units = ResNet(depth=50, output_stride=16, multi_grid=(1, 2, 4)).plan()
          >>> [(u.stride, u.entry_dilation, u.dilation) for u in units["stage5"]]
          [(1, 1, 2), (1, 4, 4), (1, 8, 8)]
        """
        last, plan, dilation = self.stride_on == "last", {}, 1
        end = LAST_STAGES.index(self.last_stage) + 1
        for stage, count in enumerate(BLOCKS[self.depth][: end - 1], 2):
            # The block from which maps are coarser, and the stride that it leads to.
            crossing, target = (count - 1, stage + 1) if last else (0, stage)
            units = []
            for i in range(count):
                stride, entry = 1, dilation
                if i == crossing and 3 <= target <= end:
                    if 2**target <= self.output_stride:
                        stride = 2
                    else:
                        dilation *= 2
                if self.dilate_first_block and not last:
                    entry = dilation
                rate = self.multi_grid[i] if stage == 5 and self.multi_grid else 1
                unit = Unit(f"block{i + 1}", stride, rate * entry, rate * dilation)
                units.append(unit)
            plan[f"stage{stage}"] = tuple(units)
        return plan

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path from the image to a stage.

        Raises:
          ValueError: if there is no such stage.
        """
        path = [
            Layer(f"{name}/conv", kernel, stride, kernel // 2)
            for name, kernel, stride, _ in STEMS[self.stem]
        ]
        plan = self.plan()
        if stage == "stage1":
            return tuple(path)
        if stage not in plan:
            raise ValueError(
                f"stage is one of stage1 to {self.last_stage}, got {stage!r}"
            )
        padding, ceil_mode = STEM_POOLS[self.stem_pool]
        path.append(Layer("pool", 3, 2, padding, ceil_mode=ceil_mode, operation="pool"))
        for name, units in plan.items():
            strides = self.stride_on == "last" and name == stage != self.last_stage
            for unit in units[:-1] if strides else units:
                path += self._block_layers(f"{name}/{unit.name}", unit)
            if name == stage:
                break
        return tuple(path)

    def _block_layers(self, block: str, unit: Unit) -> list[Layer]:
        def conv(name: str, kernel: int, stride: int = 1, dilation: int = 1) -> Layer:
            padding = kernel // 2 * dilation
            return Layer(f"{block}/{name}/conv", kernel, stride, padding, dilation)

        if self.depth in BASIC:
            return [
                conv("conv1", 3, unit.stride, unit.entry_dilation),
                conv("conv2", 3, 1, unit.dilation),
            ]
        first, second = bottleneck_strides(unit.stride, self.stride_on)
        return [
            conv("conv1", 1, first),
            conv("conv2", 3, second, unit.entry_dilation),
            conv("conv3", 1),
        ]
