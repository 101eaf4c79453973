"""DeepLab v1: VGG-16 at output stride 8, its fully connected layer dilated.

Chen, Papandreou, Kokkinos, Murphy, Yuille, ICLR 2015, arXiv 1412.7062; details
that the paper leaves open follow the authors' definitions of DeepLab-LargeFOV. The paper
adds a fully connected conditional random field, which is not part of the network.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import aligned_geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.aspp import SCORE_INIT
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.ops.pooling.windowed import avg_pool
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs

SIDE_STAGES = ("stage1", "stage2", "stage3", "stage4")
"""Stages that the multi-scale form reads besides the image: the first four poolings."""

SIDE_FEATURES = 128


class DeepLabV1(nn.Module):
    """A dilated VGG, fc6 and fc7 as convolutions, scores, and interpolation.

    The four forms of the paper, all on
    `VGG(pool_window=3, ceil_mode=True, output_stride=8)`, for 21 classes:

        DeepLab-LargeFOV   the defaults                                    20,505,429
        DeepLab-7x7        fc6_kernel=7, fc6_dilation=4, fc_features=4096 134,346,581
        DeepLab-4x4        fc6_kernel=4, fc6_dilation=8, fc_features=4096  65,140,565
        DeepLab            fc6_kernel=4, fc6_dilation=4, fc_features=4096  65,140,565

    Images of sides 8 k + 1 lie on the grid of the scores: 321 gives 41, 513 gives 65.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" is used.
      fc6_kernel: side of fc6's kernel.
      fc6_dilation: spacing of its taps, in pixels of the map.
      fc_features: channels of fc6 and fc7.
      average_pool: whether a 3x3 average pooling of stride 1 precedes fc6 (pool5a).
      multi_scale: whether the image and the first four poolings are seen, too, each
        through two convolutions of 128 channels, beside fc7 (the paper's MSc).
      dropout_rate: fraction of activations dropped behind fc6 and fc7, and in MSc.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    fc6_kernel: int = 3
    fc6_dilation: int = 12
    fc_features: int = 1024
    average_pool: bool = True
    multi_scale: bool = False
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes,
            fc6_kernel=self.fc6_kernel,
            fc6_dilation=self.fc6_dilation,
            fc_features=self.fc_features,
        )
        if (self.fc6_kernel - 1) * self.fc6_dilation % 2:
            raise ValueError(
                "fc6_dilation is even where fc6_kernel is, so that fc6 keeps the size, "
                f"got {self.fc6_dilation} and {self.fc6_kernel}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        stages = self.backbone(image, train=train)
        x = stages["stage5"]
        if self.average_pool:
            x = avg_pool(x, window=3, stride=1, padding=1)
        fc6, fc7 = self._fc_layers()
        x = self._hidden(x, fc6, self.fc_features, train)
        x = self._hidden(x, fc7, self.fc_features, train)
        if self.multi_scale:
            maps = {"image": image} | {name: stages[name] for name in SIDE_STAGES}
            seen = [self._side(m, name, x, train) for name, m in maps.items()]
            x = jnp.concatenate([x, *seen], axis=-1)
        x = Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=SCORE_INIT,
            name="logits",
        )(x)
        size = (image.shape[1], image.shape[2])
        x = resize_bilinear(x.astype(jnp.float32), size=size, align_corners=True)
        return {"logits": x}

    def _side(self, x: Array, name: str, like: Array, train: bool) -> Array:
        """A map seen through two convolutions, at the size of `like`.

        The first one strides to it, which the paper leaves open.
        """
        stride = round(x.shape[1] / like.shape[1])
        first = Layer(f"{name}_conv1", kernel=3, stride=stride, padding=1)
        x = self._hidden(x, first, SIDE_FEATURES, train)
        x = self._hidden(x, Layer(f"{name}_conv2"), SIDE_FEATURES, train)
        size = (like.shape[1], like.shape[2])
        if x.shape[1:3] != size:
            x = resize_bilinear(x, size=size, align_corners=True)
        return x

    def _hidden(self, x: Array, layer: Layer, features: int, train: bool) -> Array:
        before, _ = layer.pads
        x = Conv(
            features,
            (layer.kernel, layer.kernel),
            stride=layer.stride,
            padding=before,
            dilation=layer.dilation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=layer.name,
        )(x)
        dropout = nn.Dropout(
            self.dropout_rate, deterministic=not train, name=f"{layer.name}_dropout"
        )
        return dropout(nn.relu(x))

    def _fc_layers(self) -> tuple[Layer, Layer]:
        reach = (self.fc6_kernel - 1) * self.fc6_dilation // 2
        fc6 = Layer("fc6", self.fc6_kernel, padding=reach, dilation=self.fc6_dilation)
        return fc6, Layer("fc7")

    def layers(self) -> tuple[Layer, ...]:
        """The path through fc6, up to the logits at the image's size.

        Interpolation is written for sides of one more than a multiple of the output
        stride.
        """
        path = [*prefixed("backbone", self.backbone.layers("stage5"))]
        if self.average_pool:
            path.append(Layer("pool5a", kernel=3, padding=1, operation="pool"))
        path += [*self._fc_layers(), Layer("logits")]
        return (*path, interpolation("resize", self.backbone.output_stride))

    @property
    def geometry(self) -> Geometry:
        """Sides whose corners lie on the grid of the scores."""
        return aligned_geometry(self.layers(), self.backbone.output_stride)
