"""DeepLab v2: atrous spatial pyramid pooling as a sum, on VGG-16 and ResNet-101.

Chen, Papandreou, Kokkinos, Murphy, Yuille, TPAMI 2017, arXiv 1606.00915; details
that the paper leaves open follow the authors' definitions. The paper adds a fully connected
conditional random field, which is not part of the network.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry, whole_image_geometry
from segjax.geometry.padded import aligned_geometry
from segjax.geometry.paths import interpolation, prefixed
from segjax.layers.aspp import SCORE_INIT
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal
from segjax.ops.resizing.resize import resize_bilinear
from segjax.types import Array, Dtype, Outputs

HE_NORMAL = he_normal()
MOST_STEPS = 16
"""Strides within which to search for a side that all scales divide."""


class Branch(nn.Module):
    """One rate of the pyramid: scores from a dilated 3x3 convolution.

    Attributes:
      num_classes: channels of the scores, K.
      rate: spacing of the taps, in pixels of the map.
      fc_features: channels of fc6 and fc7 before the scores; None scores directly.
      dropout_rate: fraction of activations dropped behind fc6 and fc7.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    rate: int
    fc_features: int | None
    dropout_rate: float
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, h, w, C]` to scores `[B, h, w, K]`."""
        *hidden, scores = self.layers()
        for layer in hidden:
            assert self.fc_features is not None
            x = nn.relu(self._conv(self.fc_features, layer)(x))
            name = f"{layer.name}_dropout"
            x = nn.Dropout(self.dropout_rate, deterministic=not train, name=name)(x)
        return self._conv(self.num_classes, scores, SCORE_INIT)(x)

    def _conv(
        self, features: int, layer: Layer, kernel_init: Initializer = HE_NORMAL
    ) -> Conv:
        return Conv(
            features,
            (layer.kernel, layer.kernel),
            padding=layer.pads[0],
            dilation=layer.dilation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=kernel_init,
            name=layer.name,
        )

    def layers(self) -> tuple[Layer, ...]:
        """The convolutions, one after the other."""
        atrous = functools.partial(
            Layer, kernel=3, padding=self.rate, dilation=self.rate
        )
        if self.fc_features is None:
            return (atrous("scores"),)
        return atrous("fc6"), Layer("fc7"), Layer("scores")


class DeepLabV2(nn.Module):
    """A dilated backbone, branches of several rates whose scores are added.

    The paper's own, for 21 classes:

        ResNet-101, ASPP-L    44,048,532   `ResNet(101, output_stride=8,
          stem_pool="ceil", stride_on="1x1", dilate_first_block=True,
          norm=Norm(frozen=True))`, scales=(1.0, 0.75, 0.5)
        VGG-16, ASPP-L        37,877,652   `VGG(pool_window=3, ceil_mode=True,
          output_stride=8)`, fc_features=1024
        ASPP-S                rates=(2, 4, 8, 12)
        LargeFOV              rates=(12,)

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "stage5" is used.
      rates: dilation of each branch, in pixels of the map.
      fc_features: channels of fc6 and fc7 of each branch (VGG-16); None scores directly
        (ResNet-101).
      scales: factors by which the image is resized; the scores of all are fused by
        their maximum. In training those of each scale are `side_logits`.
      dropout_rate: fraction of activations dropped behind fc6 and fc7.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    rates: tuple[int, ...] = (6, 12, 18, 24)
    fc_features: int | None = None
    scales: tuple[float, ...] = (1.0,)
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, rates=self.rates)
        if self.fc_features is not None:
            check_counts(fc_features=self.fc_features)
        if 1.0 not in self.scales or not all(0 < s <= 1 for s in self.scales):
            raise ValueError(
                "scales hold 1.0, whose grid the others are brought to, and factors "
                f"between 0 and 1, got {self.scales}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        In training with several scales there is `side_logits`, too: a tuple of such
        logits, one for each scale.
        """
        size = (image.shape[1], image.shape[2])
        branches = [self._branch(i, rate) for i, rate in enumerate(self.rates, 1)]

        def scores(scale: float) -> Array:
            x = image if scale == 1 else _resized(image, scale)
            x = self.backbone(x, train=train)["stage5"]
            parts = [branch(x, train=train).astype(jnp.float32) for branch in branches]
            return functools.reduce(jnp.add, parts)

        found = {scale: scores(scale) for scale in self.scales}
        grid = (found[1.0].shape[1], found[1.0].shape[2])
        found = {s: _interpolated(x, grid) for s, x in found.items()}
        fused = functools.reduce(jnp.maximum, found.values())
        outputs: Outputs = {"logits": _interpolated(fused, size)}
        if train and len(found) > 1:
            sides = tuple(_interpolated(x, size) for x in found.values())
            outputs["side_logits"] = sides
        return outputs

    def _branch(self, i: int, rate: int) -> Branch:
        return Branch(
            self.num_classes,
            rate,
            self.fc_features,
            self.dropout_rate,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=f"branch{i}",
        )

    def layers(self) -> tuple[Layer, ...]:
        """The path of the largest rate at scale 1, up to the image's size.

        Interpolation is written for sides of one more than a multiple of the output
        stride.
        """
        i, rate = max(enumerate(self.rates, 1), key=lambda entry: entry[1])
        branch = Branch(self.num_classes, rate, self.fc_features, 0.0, parent=None)
        return (
            *prefixed("backbone", self.backbone.layers("stage5")),
            *prefixed(f"branch{i}", branch.layers()),
            interpolation("resize", self.backbone.output_stride),
        )

    @property
    def geometry(self) -> Geometry:
        """Sides whose corners lie on the grid of the scores.

        With several scales a smaller image sees farther, so no tiles give what the
        whole image gives; and the corners of each scale lie on its grid.
        """
        stride = self.backbone.output_stride
        if self.scales != (1.0,):
            steps = (stride * i for i in range(1, MOST_STEPS + 1))
            fits = (
                step
                for step in steps
                if all(float(step * s / stride).is_integer() for s in self.scales)
            )
            return whole_image_geometry(next(fits, stride), align_corners=True)
        return aligned_geometry(self.layers(), self.backbone.output_stride)


def _resized(image: Array, scale: float) -> Array:
    """The image resized corner to corner: 513 pixels by 0.75 are 385."""
    height, width = (max(1, round((side - 1) * scale) + 1) for side in image.shape[1:3])
    return resize_bilinear(image, size=(height, width), align_corners=True)


def _interpolated(scores: Array, size: tuple[int, int]) -> Array:
    if scores.shape[1:3] == size:
        return scores
    return resize_bilinear(scores, size=size, align_corners=True)
