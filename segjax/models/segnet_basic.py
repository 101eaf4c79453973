"""SegNet-Basic and the other decoders of the paper's table 1, on one small encoder.

Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561, section 3.2 and figure 3.
SegNet-Basic itself is as in the authors' release; of the others only the text is known.
Where it is silent: what SegNet-Basic-EncoderAddition adds is the encoder's map before
its pooling (it has the decoder's resolution); the learned kernels of 8x8 start as the
4x4 that interpolates bilinearly, with zeros around; fixed interpolation doubles the
resolution four times, as the learned one does.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.layers.unpool import pool, unpool
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.normalization.local_response import local_response_norm
from segjax.ops.resizing.resize import bilinear_kernel, resize_bilinear
from segjax.types import Array, Dtype, Outputs

KERNEL = 7
"""Side of the kernels of encoder and decoder."""

UP_KERNEL = 8
"""Side of the kernels that learn to enlarge by 2."""

FIRST_DROPOUT = 3
"""The first level at which Bayesian SegNet-Basic drops activations."""


class Decoder(NamedTuple):
    """The way from one resolution to the next in a row of table 1.

    Attributes:
      upsampling: "indices" (unpooling, then a convolution), "learned" (a transposed
        convolution) or "bilinear" (fixed).
      adds: whether the encoder's map is added.
      reduces: whether all maps are reduced to one channel per class before.
      single_channel: whether the convolution sees each channel by itself.
    """

    upsampling: str
    adds: bool = False
    reduces: bool = False
    single_channel: bool = False


DECODERS = {
    "bilinear_interpolation": Decoder("bilinear", reduces=True),
    "segnet_basic": Decoder("indices"),
    "segnet_basic_encoder_addition": Decoder("indices", adds=True),
    "segnet_basic_single_channel_decoder": Decoder("indices", single_channel=True),
    "fcn_basic": Decoder("learned", adds=True, reduces=True),
    "fcn_basic_no_addition": Decoder("learned", reduces=True),
    "fcn_basic_no_dim_reduction": Decoder("learned", adds=True),
    "fcn_basic_no_addition_no_dim_reduction": Decoder("learned"),
}
"""The rows of table 1, by the paper's names."""


class UpsampleByTwo(nn.Module):
    """A transposed convolution of stride 2 that starts as bilinear interpolation.

    Attributes:
      features: output channels.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, 2 H, 2 W, features]`."""
        shape = (UP_KERNEL, UP_KERNEL, self.features, x.shape[-1])
        kernel = self.param("kernel", _bilinear_init, shape, self.param_dtype)
        return conv_transpose(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=2,
            padding=UP_KERNEL // 2 - 1,
        )


def _bilinear_init(key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
    """Each channel goes to the channel of its number, where there is one."""
    del key
    *_, features, channels = shape
    kernel = bilinear_kernel(4, channels=max(features, channels))
    margin = (UP_KERNEL - 4) // 2
    kernel = jnp.pad(kernel, ((margin, margin), (margin, margin), (0, 0), (0, 0)))
    return kernel[:, :, :features, :channels].astype(dtype)


class SegNetBasic(nn.Module):
    """Encoders of one 7x7 convolution each, and one of the decoders of table 1.

    The paper's own: `SegNetBasic(num_classes=11)`, 1,416,587 parameters for RGB. Any
    size is accepted: pooling rounds up, and the decoder goes back to the sizes it came from.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution down.
      decoder: a row of table 1, one of `DECODERS`.
      dropout_rate: fraction of activations dropped behind the encoders and decoders from
        level 3 onwards; 0.5 is Bayesian SegNet-Basic.
      sample: whether dropout acts in evaluation, too (see `SegNet`).
      norm: what follows each convolution, of the kind "batch". The authors measure the
        statistics anew after training, and add 1e-9 to the variance.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 64, 64, 64)
    decoder: str = "segnet_basic"
    dropout_rate: float = 0.0
    sample: bool = False
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        if self.decoder not in DECODERS:
            known = ", ".join(DECODERS)
            raise ValueError(f"decoder is one of {known}, got {self.decoder!r}")
        how = DECODERS[self.decoder]
        equal = how.upsampling == "indices" and (how.adds or how.single_channel)
        if equal and len(set(self.features)) > 1:
            raise ValueError(
                f"features must be the same number on each level for the decoder "
                f"{self.decoder}, got {self.features}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        how = DECODERS[self.decoder]
        x, encoded = local_response_norm(image).astype(self.dtype), []
        for i, features in enumerate(self.features, 1):
            x = nn.relu(self._conv_norm(x, features, f"{i}", train))
            before = x
            x, indices = pool(x)
            x = self._dropout(x, i, f"{i}", train)
            encoded.append((before, indices, x))
        if how.reduces:
            x = self._reduce(x, f"reduce{len(encoded)}")
        for i in range(len(encoded), 0, -1):
            if how.upsampling == "indices":
                x = self._unpool(x, i, encoded[i - 1][:2], train)
            else:
                x = self._upsample(x, i, [(b, p) for b, _, p in encoded])
            x = self._dropout(x, i, f"_decode{i}", train)
        if not how.reduces:
            x = self._reduce(x, "logits")
        return {"logits": x.astype(jnp.float32)}

    def _unpool(
        self, x: Array, level: int, encoded: tuple[Array, Array], train: bool
    ) -> Array:
        """Back to where the maxima were; then a convolution fills the gaps."""
        before, indices = encoded
        how = DECODERS[self.decoder]
        x = unpool(x, indices, size=(before.shape[1], before.shape[2]))
        features = self.features[max(level - 2, 0)]
        groups = features if how.single_channel else 1
        x = self._conv_norm(x, features, f"_decode{level}", train, groups)
        return x + before if how.adds else x

    def _upsample(
        self, x: Array, level: int, encoded: list[tuple[Array, Array]]
    ) -> Array:
        """To twice the size, where the pooled map of the level above is added."""
        how = DECODERS[self.decoder]
        _, height, width, channels = x.shape
        if how.upsampling == "bilinear":
            x = resize_bilinear(x, size=(2 * height, 2 * width))
        else:
            features = channels if how.reduces else self.features[max(level - 2, 0)]
            types = self.dtype, self.param_dtype
            x = UpsampleByTwo(features, *types, name=f"upsample{level}")(x)
        before = encoded[level - 1][0]
        x = x[:, : before.shape[1], : before.shape[2]]
        if how.adds and level > 1:
            pooled = encoded[level - 2][1]
            x = x + (
                self._reduce(pooled, f"reduce{level - 1}") if how.reduces else pooled
            )
        return x

    def _reduce(self, x: Array, name: str) -> Array:
        """One channel per class."""
        return Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )(x)

    def _conv_norm(
        self, x: Array, features: int, name: str, train: bool, groups: int = 1
    ) -> Array:
        x = Conv(
            features,
            (KERNEL, KERNEL),
            padding=KERNEL // 2,
            groups=groups,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=f"conv{name}",
        )(x)
        types = {"param_dtype": self.param_dtype, "name": f"norm{name}"}
        return normalize(x, self.norm, train=train, **types)

    def _dropout(self, x: Array, level: int, name: str, train: bool) -> Array:
        """Drops activations from level 3 onwards."""
        if level < FIRST_DROPOUT:
            return x
        acts = train or self.sample
        dropout = nn.Dropout(
            self.dropout_rate, deterministic=not acts, name=f"dropout{name}"
        )
        return dropout(x)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image down to the last pooling and up again."""
        how = DECODERS[self.decoder]
        margin, levels = KERNEL // 2, range(1, len(self.features) + 1)
        path = []
        for i in levels:
            path.append(Layer(f"conv{i}", KERNEL, padding=margin))
            path.append(
                Layer(f"pool{i}", 2, stride=2, ceil_mode=True, operation="pool")
            )
        if how.reduces:
            path.append(Layer(f"reduce{len(levels)}"))
        name, taps = {
            "indices": ("unpool", 2),
            "learned": ("upsample", UP_KERNEL),
            "bilinear": ("resize", 4),
        }[how.upsampling]
        for i in reversed(levels):
            path.append(
                Layer(f"{name}{i}", taps, 2, padding=taps // 2 - 1, transposed=True)
            )
            if how.upsampling == "indices":
                path.append(Layer(f"conv_decode{i}", KERNEL, padding=margin))
        return tuple(path) if how.reduces else (*path, Layer("logits"))

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        return padded_geometry(self.layers(), 2 ** len(self.features))
