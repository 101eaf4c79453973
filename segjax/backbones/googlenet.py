"""GoogLeNet in the form of Caffe's release, and in that of torchvision.

Szegedy et al., CVPR 2015, arXiv 1409.4842, table 1. Caffe's has biases and local
response normalisation; torchvision's has batch normalisation instead, 3x3 kernels where
the paper has 5x5, and a last pooling of 2x2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.backbones.inception import AuxiliaryHead, Inception, Unit
from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv_norm import norm_options
from segjax.layers.initializers import he_normal
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.ops.normalization.local_response import local_response_norm
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

WIDTHS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of each block: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; projection."""

STEM = {"conv1": 64, "conv2_reduce": 64, "conv2": 192}
"""Channels of the convolutions before the blocks."""

NORMALIZED = ("pool1", "conv2")
STAGES = {
    "conv1": "stage1",
    "conv2": "stage2",
    "inception3b": "stage3",
    "inception4e": "stage4",
    "inception5b": "stage5",
}
"""The part behind which each stage is taken."""

AUXILIARY = {"inception4a": "aux1", "inception4d": "aux2"}
AUXILIARY_FEATURES = (128, 1024)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's inputs, channels in [0, 1]."""


class GoogLeNet(nn.Module):
    """Nine blocks of four branches each; "Inception v1".

    The defaults are Caffe's release; torchvision's `googlenet` is

        GoogLeNet(num_classes=1000, norm=Norm(epsilon=1e-3), lrn=False, wide_kernel=3,
                  last_pool=2, auxiliary=True, dropout_rate=0.2)

    with `transform_input=True` for the weights that it offers. Biases start at 0 and
    not at 0.2.

    Attributes:
      num_classes: classes of the classifier; None leaves it away.
      norm: what stands in place of every bias, of the kind "batch"; None for nothing.
      lrn: whether local response normalisation follows the first pooling and the third
        convolution.
      wide_kernel: side of the widest kernel of each block, 5 or 3.
      last_pool: side of the window of the last pooling, 3 or 2.
      auxiliary: whether there are two more classifiers in the middle; in training they
        give the logits `aux1` and `aux2`.
      transform_input: whether the image, normalised as by torchvision, is brought to
        [-1, 1], in which its GoogLeNet was trained.
      width: factor on all channels of the trunk, for small networks.
      output_stride: input pixels per output pixel of the last stage; 32.
      first_padding: rows of zeros that the first convolution adds on each side.
      dropout_rate: fraction of the means that is dropped before the classifier.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    norm: Norm | None = None
    lrn: bool = True
    wide_kernel: int = 5
    last_pool: int = 3
    auxiliary: bool = False
    transform_input: bool = False
    width: float = 1.0
    output_stride: int = 32
    first_padding: int = 3
    dropout_rate: float = 0.4
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        for name, allowed in (
            ("wide_kernel", (3, 5)),
            ("last_pool", (2, 3)),
            ("output_stride", (32,)),
        ):
            if getattr(self, name) not in allowed:
                listed = " or ".join(map(str, allowed))
                raise ValueError(
                    f"{name} of GoogLeNet is {listed}, got {getattr(self, name)!r}"
                )
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        elif self.auxiliary:
            raise ValueError(
                "auxiliary is True, but num_classes is None; the auxiliary classifiers "
                "need a number of classes"
            )
        if self.width <= 0:
            raise ValueError(f"width is more than 0, got {self.width}")
        if self.first_padding < 0:
            raise ValueError(f"first_padding is at least 0, got {self.first_padding}")
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, (*BATCH, None))
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage1` to `stage5`, the last maps at strides 2, 4, 8, 16 and 32; with
          `num_classes` also `logits` `[B, K]`, and in training those of the auxiliary
          classifiers.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        unit: Callable[..., Unit] = partial(
            Unit,
            **norm_options(self),
        )
        found, x = {}, self._transformed(image) if self.transform_input else image
        for name, layer in self._parts():
            if layer is None:
                widths = tuple(
                    map(self._scaled, WIDTHS[name.removeprefix("inception")])
                )
                block = Inception(widths, self.wide_kernel, unit, name=name)
                x = block(x, train=train)
            elif layer.operation == "pool":
                x = max_pool(x, window=layer.kernel, stride=2, ceil_mode=True)
            else:
                features = self._scaled(STEM[name])
                pads = layer.pads[0]
                conv = unit(features, layer.kernel, layer.stride, pads, name=name)
                x = conv(x, train=train)
            if self.lrn and name in NORMALIZED:
                x = local_response_norm(x)
            if name in STAGES:
                found[STAGES[name]] = x
            wanted = train or self.is_initializing()
            if self.auxiliary and self.num_classes and wanted and name in AUXILIARY:
                head = AuxiliaryHead(
                    self.num_classes,
                    AUXILIARY_FEATURES,
                    unit,
                    **types,
                    name=AUXILIARY[name],
                )
                found[AUXILIARY[name]] = head(x, train=train)
        if self.num_classes is not None:
            x = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(
                x
            )
            dense = nn.Dense(
                self.num_classes, kernel_init=he_normal(), **types, name="classifier"
            )
            found["logits"] = dense(x).astype(jnp.float32)
        return found

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path from the image to a stage: through the widest kernels."""
        if stage not in STAGES.values():
            raise ValueError(
                f"stage of GoogLeNet is one of {', '.join(STAGES.values())}, got {stage}"
            )
        path: list[Layer] = []
        for name, layer in self._parts():
            if layer is not None:
                named = name if layer.operation == "pool" else f"{name}/conv"
                path.append(dataclasses.replace(layer, name=named))
            else:
                wide = self.wide_kernel
                path += [
                    Layer(f"{name}/reduce5x5/conv"),
                    Layer(f"{name}/conv5x5/conv", kernel=wide, padding=wide // 2),
                ]
            if STAGES.get(name) == stage:
                break
        return tuple(path)

    def _parts(self) -> list[tuple[str, Layer | None]]:
        """Everything in its order: layers, and the names of the blocks."""

        def pool(name: str, window: int = 3) -> tuple[str, Layer]:
            return name, Layer(name, window, stride=2, ceil_mode=True, operation="pool")

        def blocks(*names: str) -> list[tuple[str, Layer | None]]:
            return [(f"inception{name}", None) for name in names]

        return [
            ("conv1", Layer("conv1", 7, stride=2, padding=self.first_padding)),
            pool("pool1"),
            ("conv2_reduce", Layer("conv2_reduce")),
            ("conv2", Layer("conv2", 3, padding=1)),
            pool("pool2"),
            *blocks("3a", "3b"),
            pool("pool3"),
            *blocks("4a", "4b", "4c", "4d", "4e"),
            pool("pool4", self.last_pool),
            *blocks("5a", "5b"),
        ]

    def _scaled(self, features: int) -> int:
        return max(1, round(self.width * features))

    def _transformed(self, image: Array) -> Array:
        mean, std = (jnp.asarray(x, image.dtype) for x in (MEAN, STD))
        scale, shift = (
            (2 * std)[None, None, None],
            (2 * mean - 1)[None, None, None],
        )
        return image * scale + shift
