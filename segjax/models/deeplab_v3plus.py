"""DeepLab v3+: DeepLab v3 as the encoder, and a decoder that refines its borders.

Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, "Encoder-decoder with atrous separable
convolution for semantic image segmentation", arXiv 1802.02611, figure 2; details that
the paper leaves open are those of the authors' release (tensorflow/models,
research/deeplab).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.paths import prefixed, resizing
from segjax.layers.aspp import ASPP, SCORE_INIT, scaled_rates
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
from segjax.layers.separable import SeparableConvNorm
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs

LOW_LEVEL_STRIDE = 4
"""Image pixels per pixel of the decoder's map."""


class DeepLabV3Plus(nn.Module):
    """A dilated backbone, ASPP, and a decoder at a quarter of the image's size.

    The paper's own: `Xception(depth=65, output_stride=16)`, 41,055,413 parameters for
    21 classes. Table 3 is of `ResNet(depth=101, output_stride=16)` with
    `separable=False`, 59,344,309 parameters. Both are evaluated with the same weights
    at `output_stride=8`, too.

    `DeepLabV3Plus("resnet50", classes=1)` of segmentation_models.pytorch, 26,677,585
    parameters: `ResNet(50, output_stride=16, dilate_first_block=True)`, `rates=(12, 24, 36)`,
    `scale_rates=False`, `refine=True`, `decoder_features=(256,)`, `depthwise_norm=False`,
    `side_remainder=0`.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" and `low_level_stage` are used.
      rates: dilations of ASPP at output stride 16; at another one they are scaled, so
        that they see the same part of the image.
      scale_rates: whether they are; else `rates` are those of any output stride.
      features: channels of ASPP.
      refine: whether a 3x3 convolution follows ASPP.
      low_level_stage: the backbone's map at stride 4 that the decoder takes in.
      low_level_features: channels to which that map is reduced.
      decoder_features: channels of each 3x3 convolution of the decoder.
      separable: whether the 3x3 convolutions of ASPP and decoder are separable.
      depthwise_norm: whether a norm follows depthwise convolutions, too.
      align_corners: how maps are interpolated.
      side_remainder: of accepted sides, divided by the output stride, where corners are
        aligned: 1, or 0 for networks that were trained on its multiples.
      dropout_rate: fraction of ASPP's result dropped in training.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    rates: tuple[int, ...] = (6, 12, 18)
    scale_rates: bool = True
    features: int = 256
    refine: bool = False
    low_level_stage: str = "stage2"
    low_level_features: int = 48
    decoder_features: tuple[int, ...] = (256, 256)
    separable: bool = True
    depthwise_norm: bool = True
    align_corners: bool = True
    side_remainder: int = 1
    dropout_rate: float = 0.1
    norm: Norm = Norm(momentum=0.9997)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes,
            rates=self.rates,
            features=self.features,
            low_level_features=self.low_level_features,
            decoder_features=self.decoder_features,
        )
        check_fractions(dropout_rate=self.dropout_rate)
        for name in ("scale_rates", "refine", "separable", "depthwise_norm"):
            check_flags(**{name: getattr(self, name)})
        check_side_remainder(self.side_remainder)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        check_stage("low_level_stage", self.low_level_stage, self.backbone)
        assert self._aspp  # rates that are no integers are refused
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        norms = norm_options(self)
        stages = self.backbone(image, train=train)
        block: Callable[..., nn.Module] = ConvNorm
        if self.separable:
            block = partial(SeparableConvNorm, depthwise_norm=self.depthwise_norm)
        aspp = ASPP(
            *self._aspp, depthwise_norm=self.depthwise_norm, **norms, name="aspp"
        )
        x = aspp(stages["stage5"], train=train)
        if self.refine:
            x = block(self.features, **norms, name="refine")(x, train=train)

        low = stages[self.low_level_stage]
        reduce = ConvNorm(self.low_level_features, (1, 1), **norms, name="reduce")
        low = reduce(low, train=train)
        x = self._resize(x, (low.shape[1], low.shape[2]))
        x = jnp.concatenate([x, low], axis=-1)

        for i, features in enumerate(self.decoder_features, 1):
            x = block(features, **norms, name=f"refine{i}")(x, train=train)
        logits = Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=SCORE_INIT,
            name="logits",
        )(x)
        logits = logits.astype(jnp.float32)
        return {"logits": self._resize(logits, (image.shape[1], image.shape[2]))}

    def _resize(self, x: Array, size: tuple[int, int]) -> Array:
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    @property
    def _aspp(self) -> tuple[tuple[int, ...], int, bool, float]:
        rates = self.rates
        if self.scale_rates:
            rates = scaled_rates(rates, self.backbone.output_stride)
        return rates, self.features, self.separable, self.dropout_rate

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The branch of image-level features, which sees everything, is left out.
        Interpolation is written for sides of one more than a multiple of the output
        stride.
        """
        stride = self.backbone.output_stride
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        path += prefixed("aspp", ASPP(*self._aspp, parent=None).layers())
        path += self._conv_layers("refine") if self.refine else ()
        factor, remainder = stride // LOW_LEVEL_STRIDE, self.side_remainder
        path.append(resizing("resize_low", factor, remainder))
        for i in range(1, len(self.decoder_features) + 1):
            path += self._conv_layers(f"refine{i}")
        path.append(Layer("logits"))
        return (*path, resizing("resize", LOW_LEVEL_STRIDE, remainder))

    def _conv_layers(self, name: str) -> tuple[Layer, ...]:
        if not self.separable:
            return (Layer(f"{name}/conv", kernel=3, padding=1),)
        depthwise = Layer(f"{name}/depthwise/conv", kernel=3, padding=1)
        return depthwise, Layer(f"{name}/pointwise/conv")

    @property
    def geometry(self) -> Geometry:
        """Sides on whose corners the logits lie; every output pixel sees the image."""
        return whole_image_geometry(
            self.backbone.output_stride,
            align_corners=self.align_corners,
            remainder=self.side_remainder,
        )
