"""PSPNet: a dilated ResNet, and its last map pooled over parts of the whole scene.

Zhao, Shi, Qi, Wang, Jia, CVPR 2017, "Pyramid scene parsing network", arXiv 1612.01105;
details that the paper leaves open are those of the authors' two releases, in Caffe
(hszhao/PSPNet) and in PyTorch (hszhao/semseg).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.layers.pyramid_pooling import POOLINGS, PyramidPooling
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs


class PSPNet(nn.Module):
    """A dilated backbone, pyramid pooling, one convolution, scores.

    The paper's own, for 150 classes: 46,782,550 parameters, and 49,180,908 with the
    auxiliary classifier, on `ResNet(depth=50, output_stride=8, stem="deep",
    stem_pool="ceil", stride_on="1x1", dilate_first_block=True)`. The release in PyTorch
    differs in `stem_pool="floor"` and `stride_on="3x3"`.

    Sides of one more than a multiple of the output stride, such as 473 and 713, are
    resized pixel on pixel; at those two, the bins also divide the map's side.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" and `aux_stage` are used.
      bins: bins along each side of the pyramid's grids; empty leaves the pyramid out
        (the paper's baseline).
      pooling: "average" or "max", of each bin.
      reduce: whether each grid is reduced to `1 / len(bins)` of the map's channels.
      features: channels of the convolution that reads map and pyramid.
      aux_stage: the map that the auxiliary classifier reads in training; None for none.
      align_corners: how grids and logits are interpolated.
      dropout_rate: fraction dropped in training before each of the two classifiers.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    bins: tuple[int, ...] = (1, 2, 3, 6)
    pooling: str = "average"
    reduce: bool = True
    features: int = 512
    aux_stage: str | None = "stage4"
    align_corners: bool = True
    dropout_rate: float = 0.1
    norm: Norm = Norm(momentum=0.95)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if self.bins:
            check_counts(bins=self.bins)
        if len(set(self.bins)) < len(self.bins):
            raise ValueError(f"bins are different numbers, got {self.bins}")
        if self.pooling not in POOLINGS:
            raise ValueError(
                f"pooling is one of {tuple(POOLINGS)}, got {self.pooling!r}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        In training there are `aux_logits` of the same shape, too, unless `aux_stage` is
        None.
        """
        size = (image.shape[1], image.shape[2])
        norms = norm_options(self)
        stages = self.backbone(image, train=train)
        x = stages["stage5"]
        if self.bins:
            pyramid = PyramidPooling(
                self.bins,
                self.pooling,
                self.reduce,
                self.align_corners,
                **norms,
                name="pyramid",
            )
            x = pyramid(x, train=train)
        x = ConvNorm(self.features, **norms, name="fuse")(x, train=train)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        outputs = {"logits": self._scores(x, size, "logits")}
        if self.aux_stage is not None and (train or self.is_initializing()):
            x = stages[self.aux_stage]
            x = ConvNorm(x.shape[-1] // 4, **norms, name="aux")(x, train=train)
            dropout = nn.Dropout(
                self.dropout_rate, deterministic=not train, name="aux_dropout"
            )
            outputs["aux_logits"] = self._scores(dropout(x), size, "aux_logits")
        return outputs

    def _scores(self, x: Array, size: tuple[int, int], name: str) -> Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Conv(self.num_classes, (1, 1), **types, name=name)(x).astype(jnp.float32)
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The pyramid, which sees everything, is left out. Interpolation is written for
        sides of one more than a multiple of the output stride.
        """
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        path += [Layer("fuse/conv", kernel=3, padding=1), Layer("logits")]
        return (*path, interpolation("resize", self.backbone.output_stride))

    @property
    def geometry(self) -> Geometry:
        """Sides on whose corners the logits lie; every output pixel sees the image."""
        return whole_image_geometry(
            self.backbone.output_stride, align_corners=self.align_corners
        )
