"""PSPNet: a dilated ResNet, and its last map pooled over parts of the whole scene.

Zhao, Shi, Qi, Wang, Jia, CVPR 2017, "Pyramid scene parsing network", arXiv 1612.01105;
details that the paper leaves open are those of the authors' two releases, in Caffe
(hszhao/PSPNet) and in PyTorch (hszhao/semseg).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.paths import prefixed, resizing
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_flags,
    check_fractions,
    check_side_remainder,
    check_stage,
)
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

    `PSPNet("resnet50", classes=1)` of segmentation_models.pytorch, 2,237,889 parameters:
    `ResNet(50, output_stride=8, last_stage="stage3")`, `stage="stage3"`, `fuse_kernel=1`,
    `logits_kernel=3`, `norm_single_bin=False`, `aux_stage=None`, `side_remainder=0`.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which `stage` and `aux_stage` are used.
      stage: the map that is pooled.
      bins: bins along each side of the pyramid's grids; empty leaves the pyramid out
        (the paper's baseline).
      norm_single_bin: whether a norm follows the convolution of a grid of one bin, too.
      pooling: "average" or "max", of each bin.
      reduce: whether each grid is reduced to `1 / len(bins)` of the map's channels.
      features: channels of the convolution that reads map and pyramid.
      fuse_kernel: side of its kernel.
      logits_kernel: side of the kernel that gives the logits.
      aux_stage: the map that the auxiliary classifier reads in training; None for none.
      align_corners: how grids and logits are interpolated.
      side_remainder: of accepted sides, divided by the output stride, where corners are
        aligned: 1, or 0 for networks that were trained on its multiples.
      dropout_rate: fraction dropped in training before each of the two classifiers.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    stage: str = "stage5"
    bins: tuple[int, ...] = (1, 2, 3, 6)
    norm_single_bin: bool = True
    pooling: str = "average"
    reduce: bool = True
    features: int = 512
    fuse_kernel: int = 3
    logits_kernel: int = 1
    aux_stage: str | None = "stage4"
    align_corners: bool = True
    side_remainder: int = 1
    dropout_rate: float = 0.1
    norm: Norm = Norm(momentum=0.95)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if self.bins:
            check_counts(bins=self.bins)
        check_flags(norm_single_bin=self.norm_single_bin)
        for name in ("fuse_kernel", "logits_kernel"):
            if getattr(self, name) not in (1, 3):
                raise ValueError(f"{name} is 1 or 3, got {getattr(self, name)!r}")
        check_side_remainder(self.side_remainder)
        check_stage("stage", self.stage, self.backbone)
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
        x = stages[self.stage]
        if self.bins:
            pyramid = PyramidPooling(
                self.bins,
                self.pooling,
                self.reduce,
                self.align_corners,
                norm_single_bin=self.norm_single_bin,
                **norms,
                name="pyramid",
            )
            x = pyramid(x, train=train)
        kernel = self.fuse_kernel, self.fuse_kernel
        x = ConvNorm(self.features, kernel, **norms, name="fuse")(x, train=train)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        outputs = {"logits": self._scores(x, size, "logits", self.logits_kernel)}
        if self.aux_stage is not None and (train or self.is_initializing()):
            x = stages[self.aux_stage]
            x = ConvNorm(x.shape[-1] // 4, **norms, name="aux")(x, train=train)
            dropout = nn.Dropout(
                self.dropout_rate, deterministic=not train, name="aux_dropout"
            )
            outputs["aux_logits"] = self._scores(dropout(x), size, "aux_logits")
        return outputs

    def _scores(
        self, x: Array, size: tuple[int, int], name: str, kernel: int = 1
    ) -> Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = Conv(
            self.num_classes, (kernel, kernel), padding=kernel // 2, **types, name=name
        )
        x = conv(x).astype(jnp.float32)
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The pyramid, which sees everything, is left out. Interpolation is written for
        sides of one more than a multiple of the output stride.
        """
        path = [*prefixed("backbone", self.backbone.layers(self.stage))]
        for name, kernel in (
            ("fuse/conv", self.fuse_kernel),
            ("logits", self.logits_kernel),
        ):
            path.append(Layer(name, kernel, padding=kernel // 2))
        return (*path, resizing("resize", self._stride, self.side_remainder))

    @property
    def _stride(self) -> int:
        return round(receptive_field(self.backbone.layers(self.stage)).stride)

    @property
    def geometry(self) -> Geometry:
        """Sides on whose corners the logits lie; every output pixel sees the image."""
        return whole_image_geometry(
            self._stride,
            align_corners=self.align_corners,
            remainder=self.side_remainder,
        )
