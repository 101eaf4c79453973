"""Pyramid pooling: the means of ever larger parts of a map, beside the map itself.

Zhao, Shi, Qi, Wang, Jia, CVPR 2017, "Pyramid scene parsing network", arXiv 1612.01105,
section 3.2 and figure 3.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.norm import Norm
from segjax.ops.pooling.adaptive import adaptive_avg_pool, adaptive_max_pool
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype

POOLINGS = {"average": adaptive_avg_pool, "max": adaptive_max_pool}
"""The two that table 1 of the paper compares."""


class PyramidPooling(nn.Module):
    """A map pooled into grids of bins, each grid resized back and concatenated.

    Bins are PyTorch's adaptive ones, as in the authors' second release (semseg). Where
    the bins divide the map's side they are those of the first release, in Caffe.

    Batch normalisation of a single bin sees one value per image and channel, so training needs
    more than one image per batch, unless `norm_single_bin` is False.

    Attributes:
      bins: bins along each side of each grid; the result holds the map, then the grids
        in this order. That of the release in Caffe is (6, 3, 2, 1).
      pooling: "average" or "max".
      reduce: whether a 1x1 convolution brings each grid to `C / len(bins)` channels, so
        that all together have as many as the map.
      align_corners: how grids are resized.
      norm: what follows each convolution.
      norm_single_bin: whether it follows that of a single bin, too; else that one has a
        bias instead, as in segmentation_models.pytorch.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    bins: tuple[int, ...] = (1, 2, 3, 6)
    pooling: str = "average"
    reduce: bool = True
    align_corners: bool = True
    norm: Norm = Norm(momentum=0.95)
    norm_single_bin: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, h, w, C]` to `[B, h, w, 2 C]`, or more where `reduce` is False.

        Raises:
          ValueError: if the map has fewer channels than there are grids.
        """
        _, height, width, channels = x.shape
        if self.reduce and channels < len(self.bins):
            raise ValueError(
                f"bins {self.bins} are {len(self.bins)} grids, too many to share the "
                f"{channels} channels of the map"
            )
        parts = [x]
        for count in self.bins:
            grid = POOLINGS[self.pooling](x, size=count)
            if self.reduce:
                norms = norm_options(self)
                if count == 1 and not self.norm_single_bin:
                    norms["norm"] = None
                features = channels // len(self.bins)
                conv = ConvNorm(features, (1, 1), **norms, name=f"bins{count}")
                grid = conv(grid, train=train)
            size, corners = (height, width), self.align_corners
            parts.append(resize_bilinear(grid, size=size, align_corners=corners))
        return jnp.concatenate(parts, axis=-1)
