"""SegNet: a decoder that writes its maps to where the encoder found its maxima.

Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561; what the text leaves open
is as in the authors' release, and so are the names of the layers. Bayesian SegNet (arXiv
1511.02680) is the same network with dropout. The small network of the paper's table 1
is in `models/segnet_basic.py`.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.layers.unpool import pool, unpool
from segjax.types import Array, Dtype, Outputs

FIRST_DROPOUT = 3
"""The first level at which Bayesian SegNet drops activations."""


class SegNet(nn.Module):
    """The convolutions of VGG-16, and their mirror image.

    The paper's own: `SegNet(num_classes=11)`, 29,449,355 parameters for RGB. Any size is
    accepted: pooling rounds up (360x480 becomes 23x30 and 12x15), and unpooling goes back
    to the size it came from. The encoder has the names of `VGG(norm=Norm())`.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution down.
      depths: convolutions of each level.
      dropout_rate: fraction of activations dropped behind the encoders and decoders from
        level 3 onwards; 0.5 is Bayesian SegNet.
      sample: whether dropout acts in evaluation, too: then each pass with another key
        "dropout" is one sample of Bayesian SegNet.
      norm: what follows each convolution, of the kind "batch". The authors measure the
        statistics anew after training, and add 1e-9 to the variance.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    dropout_rate: float = 0.0
    sample: bool = False
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes, features=self.features, depths=self.depths
        )
        if len(self.depths) != len(self.features):
            raise ValueError(
                f"depths holds one number a level, as features does; it has "
                f"{len(self.depths)} for {len(self.features)}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        levels = list(enumerate(zip(self.features, self.depths, strict=True), 1))
        x, pooled = image.astype(self.dtype), []
        for i, (features, depth) in levels:
            convs = [(features, f"{i}_{j}") for j in range(1, depth + 1)]
            x = self._stack(x, convs, train)
            size = x.shape[1], x.shape[2]
            x, indices = pool(x)
            pooled.append((indices, size))
            x = self._dropout(x, i, f"{i}", train)
        for i, (features, depth) in reversed(levels):
            indices, size = pooled[i - 1]
            x = unpool(x, indices, size=size)
            convs = [(features, f"{i}_{j}_D") for j in range(depth, 1, -1)]
            if i > 1:
                convs.append((self.features[i - 2], f"{i}_1_D"))
            x = self._stack(x, convs, train)
            x = self._dropout(x, i, f"{i}_D", train)
        logits = Conv(
            self.num_classes,
            padding=1,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="conv1_1_D",
        )(x)
        return {"logits": logits.astype(jnp.float32)}

    def _stack(self, x: Array, convs: list[tuple[int, str]], train: bool) -> Array:
        """Convolutions of these widths and names, one after the other."""
        for features, name in convs:
            x = self._conv_norm(x, features, name, train)
        return x

    def _conv_norm(self, x: Array, features: int, name: str, train: bool) -> Array:
        x = Conv(
            features,
            padding=1,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=f"conv{name}",
        )(x)
        types = {"param_dtype": self.param_dtype, "name": f"norm{name}"}
        return nn.relu(normalize(x, self.norm, train=train, **types))

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
        path = []
        levels = list(enumerate(self.depths, 1))
        for i, depth in levels:
            for j in range(1, depth + 1):
                path.append(Layer(f"conv{i}_{j}", kernel=3, padding=1))
            path.append(
                Layer(f"pool{i}", kernel=2, stride=2, ceil_mode=True, operation="pool")
            )
        for i, depth in reversed(levels):
            path.append(Layer(f"unpool{i}", kernel=2, stride=2, transposed=True))
            for j in range(depth, 0, -1):
                path.append(Layer(f"conv{i}_{j}_D", kernel=3, padding=1))
        return tuple(path)

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        return padded_geometry(self.layers(), 2 ** len(self.features))
