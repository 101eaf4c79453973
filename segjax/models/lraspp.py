"""LR-ASPP: the light head of MobileNet v3.

Howard et al., ICCV 2019, arXiv 1905.02244, section 6.4 and figure 10; torchvision's form,
whose mean is of the whole image and not of windows of 49 pixels.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.aspp import SCORE_INIT
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_stage,
)
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs


class LRASPP(nn.Module):
    """Scores of a coarse map, scaled by the whole image, plus scores of a finer map.

    torchvision's `lraspp_mobilenet_v3_large`: `MobileNetV3(output_stride=16,
    dilate_first_block=True)` and `low_level_stage="stage3_first"`, 3,221,538 parameters
    for 21 classes.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" and `low_level_stage` are used.
      low_level_stage: the backbone's map at stride 8 whose scores are added.
      features: channels of the head.
      align_corners: how maps are interpolated.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    low_level_stage: str = "stage3"
    features: int = 128
    align_corners: bool = False
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        check_stage("low_level_stage", self.low_level_stage, self.backbone)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        stages = self.backbone(image, train=train)
        low, high = stages[self.low_level_stage], stages["stage5"]
        x = ConvNorm(
            self.features,
            (1, 1),
            **norm_options(self),
            name="project",
        )(high, train=train)
        mean = high.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(high.dtype)
        scale = Conv(self.features, (1, 1), use_bias=False, **types, name="scale")
        x = x * jax.nn.sigmoid(scale(mean))
        x = self._resize(x, (low.shape[1], low.shape[2]))

        def scores(x: Array, name: str) -> Array:
            scored = Conv(
                self.num_classes, (1, 1), kernel_init=SCORE_INIT, **types, name=name
            )(x)
            return scored.astype(jnp.float32)

        logits = scores(low, "low_logits") + scores(x, "logits")
        return {"logits": self._resize(logits, (image.shape[1], image.shape[2]))}

    def _resize(self, x: Array, size: tuple[int, int]) -> Array:
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The mean, which sees everything, is left out. Interpolation is written for
        aligned corners and sides of one more than a multiple of the output stride.
        """
        low = self.backbone.layers(self.low_level_stage)
        stride = round(receptive_field(low).stride)
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        path.append(Layer("project/conv"))
        path.append(interpolation("resize_low", self.backbone.output_stride // stride))
        path.append(Layer("logits"))
        return (*path, interpolation("resize", stride))

    @property
    def geometry(self) -> Geometry:
        """Sides on whose corners the logits lie; every output pixel sees the image."""
        return whole_image_geometry(
            self.backbone.output_stride, align_corners=self.align_corners
        )
