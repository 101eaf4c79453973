"""SPP-net: the network of Zeiler & Fergus with spatial pyramid pooling before fc6.

He, Zhang, Ren, Sun, ECCV 2014, arXiv 1406.4729, in the form of the authors' release
(SPP_net, Zeiler_conv5); its convolutions are the "ZF-5" of the paper, after Zeiler &
Fergus, ECCV 2014, arXiv 1311.2901.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer, output_size
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.initializers import he_normal
from segjax.ops.normalization.local_response import local_response_norm_within
from segjax.ops.pooling.spatial_pyramid import MODES, check_levels, spatial_pyramid_pool
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

STAGES = {"norm1": "stage1", "pool1": "stage2", "norm2": "stage3", "conv5": "stage4"}
"""The layer behind which each stage is taken."""

LRN_SIZE = 3


class ZFSPP(nn.Module):
    """Five convolutions, a pyramid of maxima, and a classifier for images of any size.

    The stages are `stage1` to `stage4`, at strides 2, 4, 8 and 16. What the pyramid
    gives has one length, so one set of weights takes images of several sizes: the
    authors train with 224 and 180 pixels in turn, an epoch each.

    Attributes:
      num_classes: classes of the classifier fc8; None leaves fc6 to fc8 away.
      features: channels of each convolution.
      lrn: whether the first two convolutions are followed by local response
        normalisation, within each channel.
      levels: bins along each side of the map, by level, in the order in which the
        release concatenates them.
      mode: how the bins are placed; see `segjax.ops.pooling.spatial_pyramid.spp_bins`. "released" is that
        of the released weights, for images of 224 pixels alone; "adaptive" differs from
        it there in one row and one column of the level of 2.
      output_stride: input pixels per output pixel of the last stage; 16.
      fc_features: channels of fc6 and fc7.
      dropout_rate: fraction of activations dropped behind fc6 and fc7.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    features: tuple[int, ...] = (96, 256, 384, 384, 256)
    lrn: bool = True
    levels: tuple[int, ...] = (1, 2, 3, 6)
    mode: str = "adaptive"
    output_stride: int = 16
    fc_features: int = 4096
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(features=self.features, fc_features=self.fc_features)
        if len(self.features) != 5:
            raise ValueError(
                "features of ZFSPP holds one entry a convolution, five, got "
                f"{self.features}"
            )
        check_levels(self.levels)
        if self.mode not in MODES:
            raise ValueError(
                f"mode of ZFSPP is one of {', '.join(MODES)}, got {self.mode!r}"
            )
        if self.output_stride != 16:
            raise ValueError(f"output_stride of ZFSPP is 16, got {self.output_stride}")
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        check_fractions(dropout_rate=self.dropout_rate)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to `stage4`; `pyramid` `[B, bins * features[-1]]`, `stage4` pooled, in
          the order of `spatial_pyramid_pool`; `logits` `[B, K]` if there are classes.

        Raises:
          ValueError: if the image is too small for the convolutions, or its last map
            for `mode`.
        """
        for side in image.shape[1:3]:
            output_size(self.layers(), side)
        widths = {f"conv{i}": width for i, width in enumerate(self.features, 1)}
        stages, x = {}, image
        for layer in self._path():
            if layer.name in widths:
                x = self._conv(x, layer, widths[layer.name])
            elif layer.operation == "norm":
                x = local_response_norm_within(x, size=LRN_SIZE) if self.lrn else x
            else:
                x = max_pool(
                    x,
                    window=layer.kernel,
                    stride=layer.stride,
                    ceil_mode=layer.ceil_mode,
                )
            if layer.name in STAGES:
                stages[STAGES[layer.name]] = x
        x = spatial_pyramid_pool(x, levels=self.levels, mode=self.mode)
        stages["pyramid"] = x
        if self.num_classes is not None:
            stages["logits"] = self._classify(x, self.num_classes, train)
        return stages

    def layers(self, stage: str = "stage4") -> tuple[Layer, ...]:
        """The path from the image to a stage, `stage1` to `stage4`.

        The normalisations are part of it: they look at the pixels around.
        """
        if stage not in STAGES.values():
            known = ", ".join(STAGES.values())
            raise ValueError(f"stage of ZFSPP is one of {known}, got {stage}")
        path: list[Layer] = []
        for layer in self._path():
            if self.lrn or layer.operation != "norm":
                path.append(layer)
            if STAGES.get(layer.name) == stage:
                break
        return tuple(path)

    def _path(self) -> tuple[Layer, ...]:
        around = LRN_SIZE // 2
        return (
            Layer("conv1", kernel=7, stride=2, padding=1),
            Layer("norm1", kernel=LRN_SIZE, padding=around, operation="norm"),
            Layer("pool1", kernel=3, stride=2, ceil_mode=True, operation="pool"),
            Layer("conv2", kernel=5, stride=2),
            Layer("norm2", kernel=LRN_SIZE, padding=around, operation="norm"),
            Layer("pool2", kernel=3, stride=2, ceil_mode=True, operation="pool"),
            Layer("conv3", kernel=3, padding=1),
            Layer("conv4", kernel=3, padding=1),
            Layer("conv5", kernel=3, padding=1),
        )

    def _conv(self, x: Array, layer: Layer, features: int) -> Array:
        before, _ = layer.pads
        x = Conv(
            features,
            (layer.kernel, layer.kernel),
            stride=layer.stride,
            padding=before,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=layer.name,
        )(x)
        return nn.relu(x)

    def _classify(self, x: Array, num_classes: int, train: bool) -> Array:
        for i in (6, 7):
            x = nn.relu(self._dense(x, self.fc_features, f"fc{i}"))
            x = nn.Dropout(
                self.dropout_rate, deterministic=not train, name=f"dropout{i}"
            )(x)
        return self._dense(x, num_classes, "fc8").astype(jnp.float32)

    def _dense(self, x: Array, features: int, name: str) -> Array:
        return nn.Dense(
            features,
            kernel_init=he_normal(),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )(x)
