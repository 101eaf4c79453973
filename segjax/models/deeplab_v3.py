"""DeepLab v3: atrous spatial pyramid pooling with image-level features.

Chen, Papandreou, Schroff, Adam 2017, "Rethinking atrous convolution for semantic image
segmentation", arXiv 1706.05587; details that the paper leaves open are those of the
authors' release (tensorflow/models, research/deeplab).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.aspp import ASPP, SCORE_INIT, scaled_rates
from segjax.layers.attributes import (
    check_counts,
    check_dtypes,
    check_fractions,
    check_stage,
)
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs


class DeepLabV3(nn.Module):
    """A dilated backbone, ASPP, scores, and bilinear interpolation to the image.

    The paper's own: `ResNet(depth=101, output_stride=16, multi_grid=(1, 2, 4),
    stride_on="last")`, 58,040,661 parameters for 21 classes, evaluated with the same
    weights at `output_stride=8`. The blocks of its last stage have rates 2, 4, 8 (and 4,
    8, 16); with `stride_on="3x3"`, which torchvision's weights need, the first block
    keeps the rate of the stage before: 1, 4, 8 (and 2, 8, 16). torchvision's
    `deeplabv3_resnet50`: output stride 8, no multi-grid, `refine=True`,
    `align_corners=False`, `dropout_rate=0.5`, and `aux_stage="stage4"` where it was
    trained with the auxiliary loss.

    The release's mobile form (`mobilenetv2_coco_voc_trainaug`): `rates=()` on
    `MobileNetV2(output_stride=16, last_features=None)`, 2,113,557 parameters.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" is used.
      rates: dilations of ASPP at output stride 16; at another one they are scaled, so
        that they see the same part of the image; empty for none.
      features: channels of ASPP.
      separable: whether ASPP's 3x3 convolutions are separable.
      refine: whether a 3x3 convolution follows ASPP, as in torchvision.
      aux_stage: where given, the map that an auxiliary classifier reads in training.
      align_corners: how the logits are interpolated.
      dropout_rate: fraction of ASPP's result dropped in training.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    rates: tuple[int, ...] = (6, 12, 18)
    features: int = 256
    separable: bool = False
    refine: bool = False
    aux_stage: str | None = None
    align_corners: bool = True
    dropout_rate: float = 0.1
    norm: Norm = Norm(momentum=0.9997)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if self.rates:
            check_counts(rates=self.rates)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        if self.aux_stage is not None:
            check_stage("aux_stage", self.aux_stage, self.backbone)
        scaled_rates(self.rates, self.backbone.output_stride)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        In training there are `aux_logits` of the same shape, too, if `aux_stage` is
        set.
        """
        size = (image.shape[1], image.shape[2])
        norms = norm_options(self)
        stages = self.backbone(image, train=train)
        x = ASPP(*self._aspp, **norms, name="aspp")(stages["stage5"], train=train)
        if self.refine:
            x = ConvNorm(self.features, **norms, name="refine")(x, train=train)
        outputs = {"logits": self._scores(x, size, "logits")}
        if self.aux_stage is not None and (train or self.is_initializing()):
            x = stages[self.aux_stage]
            x = ConvNorm(x.shape[-1] // 4, **norms, name="aux")(x, train=train)
            x = nn.Dropout(0.1, deterministic=not train, name="aux_dropout")(x)
            outputs["aux_logits"] = self._scores(x, size, "aux_logits")
        return outputs

    def _scores(self, x: Array, size: tuple[int, int], name: str) -> Array:
        x = Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=SCORE_INIT,
            name=name,
        )(x)
        x = x.astype(jnp.float32)
        return resize_bilinear(x, size=size, align_corners=self.align_corners)

    @property
    def _aspp(self) -> tuple[tuple[int, ...], int, bool, float]:
        rates = scaled_rates(self.rates, self.backbone.output_stride)
        return rates, self.features, self.separable, self.dropout_rate

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions, up to the logits at the image's size.

        The branch of image-level features, which sees everything, is left out.
        Interpolation is written for sides of one more than a multiple of the output
        stride.
        """
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        path += prefixed("aspp", ASPP(*self._aspp, parent=None).layers())
        if self.refine:
            path.append(Layer("refine/conv", kernel=3, padding=1))
        path.append(Layer("logits"))
        return (*path, interpolation("resize", self.backbone.output_stride))

    @property
    def geometry(self) -> Geometry:
        """Sides on whose corners the logits lie; every output pixel sees the image."""
        return whole_image_geometry(
            self.backbone.output_stride, align_corners=self.align_corners
        )
