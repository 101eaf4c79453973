"""One small encoder, and every way back to its resolution: the upsampling laboratory.

No paper has this network; it is made so that a comparison shows the operator and nothing
else, in the manner of table 1 of SegNet (Badrinarayanan, Kendall, Cipolla, TPAMI 2017,
arXiv 1511.00561). The parameters that two forms share have the same names and shapes,
and so the same initial values under one seed.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.layers.unpool import pool, unpool
from segjax.layers.upsample import Upsample
from segjax.ops.resizing.resize import (
    bed_of_nails,
    crop,
    resize_bilinear,
    upsample_nearest,
)
from segjax.types import Array, Dtype, Outputs

UPSAMPLING = {
    "nearest": Layer("resize", 2, 2, transposed=True),
    "bilinear": Layer("resize", 4, 2, padding=1, transposed=True),
    "bed_of_nails": Layer("unpool", 1, 2, transposed=True, output_padding=1),
    "index_unpooling": Layer("unpool", 2, 2, transposed=True),
    "transposed": Layer("upsample", 4, 2, padding=1, transposed=True),
}
"""The operators that enlarge by 2, and which pixels they connect."""


class EncoderDecoder(nn.Module):
    """Levels of one 3x3 convolution and one pooling, and the same number of levels up.

    Each level of the decoder enlarges by 2 and convolves. "nearest", "bilinear" and
    "bed_of_nails" know nothing of the encoder and have no parameters;
    "index_unpooling" puts values back to where the encoder's maxima were; "transposed" is
    a learned 4x4 convolution that starts as bilinear interpolation. With `skip` the
    encoder's map of that resolution is concatenated behind the upsampled one.

    Any size is accepted: pooling rounds up, and the decoder goes back to the sizes it came
    from.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution down.
      upsampling: the operator, a key of `UPSAMPLING`.
      skip: whether the encoder's maps are handed to the decoder.
      norm: what follows each convolution.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (16, 32, 48, 64)
    upsampling: str = "index_unpooling"
    skip: bool = False
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if self.upsampling not in UPSAMPLING:
            known = ", ".join(UPSAMPLING)
            raise ValueError(f"upsampling is one of {known}, got {self.upsampling!r}")
        if not isinstance(self.skip, bool):
            raise ValueError(f"skip is True or False, got {self.skip!r}")
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        x, encoded = image.astype(self.dtype), []
        for i, features in enumerate(self.features, 1):
            x = self._conv_norm(x, features, f"encode{i}", train)
            skip = x
            x, indices = pool(x)
            encoded.append((skip, indices))
        for i, (skip, indices) in reversed(list(enumerate(encoded, 1))):
            x = self._enlarge(x, indices, i, (skip.shape[1], skip.shape[2]))
            if self.skip:
                x = jnp.concatenate([x, skip], axis=-1)
            x = self._conv_norm(x, self.features[max(i - 2, 0)], f"decode{i}", train)
        logits = Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="logits",
        )(x)
        return {"logits": logits.astype(jnp.float32)}

    def _enlarge(
        self, x: Array, indices: Array, level: int, size: tuple[int, int]
    ) -> Array:
        """Maps `[B, h, w, C]` to `[B, *size, C]`; a last row too many is cut off."""
        if self.upsampling == "index_unpooling":
            return unpool(x, indices, size=size)
        offset = (0, 0)
        if self.upsampling == "nearest":
            x = upsample_nearest(x, factor=2)
        elif self.upsampling == "bilinear":
            x = resize_bilinear(x, size=(2 * x.shape[1], 2 * x.shape[2]))
        elif self.upsampling == "bed_of_nails":
            x = bed_of_nails(x, factor=2)
        else:
            types = self.dtype, self.param_dtype
            x = Upsample(2, 4, True, *types, name=f"upsample{level}")(x)
            offset = (1, 1)
        return crop(x, offset=offset, size=size)

    def _conv_norm(self, x: Array, features: int, name: str, train: bool) -> Array:
        layer = ConvNorm(
            features,
            norm=self.norm,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
        return layer(x, train=train)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image down to the last pooling and up again.

        What index unpooling connects depends on the image: here, every pixel of a block.
        """
        levels, path = range(1, len(self.features) + 1), []
        for i in levels:
            path.append(Layer(f"encode{i}/conv", 3, padding=1))
            path.append(
                Layer(f"pool{i}", 2, stride=2, ceil_mode=True, operation="pool")
            )
        operator = UPSAMPLING[self.upsampling]
        for i in reversed(levels):
            path.append(dataclasses.replace(operator, name=f"{operator.name}{i}"))
            path.append(Layer(f"decode{i}/conv", 3, padding=1))
        return (*path, Layer("logits"))

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        return padded_geometry(self.layers(), 2 ** len(self.features))
