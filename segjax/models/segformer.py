"""SegFormer: a transformer's maps at four strides, and a decoder of dense layers.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, "SegFormer: Simple and efficient design
for semantic segmentation with transformers", arXiv 2105.15203; details that the paper leaves
open are those of the authors' release (NVlabs/SegFormer).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.aspp import SCORE_INIT
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_fractions,
    check_stage,
)
from segjax.layers.conv import Conv
from segjax.layers.initializers import he_normal, normal
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.ops.convolution.convolve import conv
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs

STAGES = ("stage2", "stage3", "stage4", "stage5")
FINEST = 4
"""Pixels of the image from one pixel of "stage2" to the next."""


class Fuse(nn.Module):
    """Maps of several sizes, resized to that of the last, side by side, under a 1x1 kernel.

    Each map goes through its part of the kernel before it is resized: one mixes channels, the
    other pixels, so that the order changes nothing but rounding, and small maps cost little.

    Attributes:
      features: output channels.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: tuple[Array, ...]) -> Array:
        """Maps each `[B, h, w, C]` to one `[B, H, W, features]`."""
        size = (maps[-1].shape[1], maps[-1].shape[2])
        channels = [x.shape[-1] for x in maps]
        shape = (1, 1, sum(channels), self.features)
        kernel = self.param("kernel", he_normal(), shape, self.param_dtype)
        parts = jnp.split(
            kernel.astype(self.dtype), np.cumsum(channels)[:-1].tolist(), axis=2
        )
        mixed = [conv(x, part) for x, part in zip(maps, parts, strict=True)]
        return sum(resize_bilinear(x, size=size) for x in mixed[:-1]) + mixed[-1]


class SegFormer(nn.Module):
    """Four maps of a backbone, brought to as many channels and one size, and scores.

    The paper's B0 to B5 stand on `MixTransformer`, with `features=256` on B0 and B1 and
    `features=768` on the others; for 150 classes B0 has 3,752,694 parameters, B5
    84,708,694 (3.8 and 84.7 million in the paper).

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage2" to "stage5" are used.
      features: channels to which each map is brought.
      dropout_rate: fraction of the channels dropped in training before the scores.
      norm: what follows the mixing of the maps.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    features: int = 256
    dropout_rate: float = 0.1
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        for stage in STAGES:
            check_stage("backbone", stage, self.backbone)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        Scores are those of `H / 4` rows and `W / 4` columns, rounded up, interpolated.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        stages = self.backbone(image, train=train)
        maps = []
        for stage in STAGES:
            dense = nn.Dense(
                self.features, kernel_init=normal(0.02), **types, name=f"linear_{stage}"
            )
            maps.append(dense(stages[stage]))
        x = Fuse(self.features, **types, name="fuse")(tuple(reversed(maps)))
        x = normalize(x, self.norm, train=train, param_dtype=self.param_dtype)
        x = nn.Dropout(
            self.dropout_rate,
            broadcast_dims=(1, 2),
            deterministic=not train,
            name="dropout",
        )(nn.relu(x))
        x = Conv(
            self.num_classes, (1, 1), kernel_init=SCORE_INIT, **types, name="logits"
        )(x)
        size = (image.shape[1], image.shape[2])
        return {"logits": resize_bilinear(x.astype(jnp.float32), size=size)}

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The attention, which sees everything, is left out. Interpolation is written for
        aligned corners and sides of one more than a multiple of the output stride.
        """
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        path += [Layer("linear_stage5"), Layer("fuse")]
        path.append(interpolation("resize", self.backbone.output_stride // FINEST))
        return (*path, Layer("logits"), interpolation("resize_logits", FINEST))

    @property
    def geometry(self) -> Geometry:
        """Every side from a minimum on is taken; every output pixel sees the image."""
        minimum = getattr(self.backbone, "minimum", 1)
        stride = self.backbone.output_stride
        return Geometry(stride, halo=None, minimum=minimum, offset=None)
