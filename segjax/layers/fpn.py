"""Feature pyramid: maps of all strides with one number of channels, all semantic.

Lin, Dollár, Girshick, He, Hariharan, Belongie, CVPR 2017, arXiv 1612.03144, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv_norm import ConvNorm
from segjax.layers.norm import Norm
from segjax.ops.resizing.resize import resize_nearest
from segjax.types import Array, Dtype


class FPN(nn.Module):
    """1x1 convolutions of all stages, added from coarse to fine, then 3x3 convolutions.

    The coarser sum is enlarged to the size of the finer map by copying pixels. A last
    map is every other pixel of the coarsest one: the level at which region proposals
    are largest. There is no ReLU.

    Attributes:
      features: channels of every map.
      extra_level: whether the last map is added.
      output_convs: whether the sums are convolved; segmentation_models.pytorch leaves that out.
      norm: what follows each convolution; None for nothing.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int = 256
    extra_level: bool = True
    output_convs: bool = True
    norm: Norm | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[Array], *, train: bool) -> tuple[Array, ...]:
        """Maps stages to a pyramid.

        Args:
          stages: maps `[B, h, w, C]`, fine to coarse, each of its own C.
          train: whether statistics are those of the batch.

        Returns:
          As many maps `[B, h, w, features]` of the same sizes, named by level from 2 on,
          and one more of half the size of the last if there is an extra level.

        Raises:
          ValueError: if there is no stage.
        """
        if not stages:
            raise ValueError("stages is empty; allowed is at least one map")
        merged: Array | None = None
        pyramid: list[Array] = []
        for level in reversed(range(len(stages))):
            x = self._conv(1, f"lateral{level + 2}")(stages[level], train=train)
            if merged is not None:
                x = x + resize_nearest(merged, size=(x.shape[1], x.shape[2]))
            merged = x
            if self.output_convs:
                x = self._conv(3, f"output{level + 2}")(x, train=train)
            pyramid.insert(0, x)
        if self.extra_level:
            pyramid.append(pyramid[-1][:, ::2, ::2])
        return tuple(pyramid)

    def _conv(self, kernel: int, name: str) -> ConvNorm:
        return ConvNorm(
            self.features,
            (kernel, kernel),
            activation=None,
            norm=self.norm,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
