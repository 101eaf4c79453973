"""U-Net: a contracting path, an expanding path, and the skips between them.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597, figure 1; the details that the
figure leaves open (dropout, the order of the concatenation) are those of the authors'
release.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer, input_window, output_size
from segjax.geometry.input_sizes import Geometry
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv, UpConv
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.ops.pooling.windowed import max_pool
from segjax.ops.resizing.resize import center_crop
from segjax.types import Array, Dtype, Outputs, is_count

MARGINS = {"VALID": 0, "SAME": 1}
"""Rows of zeros that each side of a 3x3 convolution gets."""


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with a ReLU.

    Attributes:
      features: output channels of both.
      padding: "VALID" or "SAME".
      norm: what follows each convolution, of the kind "batch"; None for nothing.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    padding: str
    norm: Norm | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        for i in (1, 2):
            x = Conv(
                self.features,
                padding=MARGINS[self.padding],
                use_bias=self.norm is None,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"conv{i}",
            )(x)
            if self.norm is not None:
                types = {"param_dtype": self.param_dtype, "name": f"norm{i}"}
                x = normalize(x, self.norm, train=train, **types)
            x = nn.relu(x)
        return x


class UNet(nn.Module):
    """The network of figure 1, and its padded form.

    The paper's own: `UNet(num_classes=2)`, 31,030,658 parameters for one input channel.
    Batch normalisation is not in the paper.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution to the bottom.
      padding: "VALID" (the paper: the output is smaller than the input) or "SAME".
      norm: what follows each convolution, of the kind "batch"; None for nothing.
      dropout_rate: fraction of activations dropped at the last level with a skip and at
        the bottom.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: str = "VALID"
    norm: Norm | None = None
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        if self.padding not in MARGINS:
            raise ValueError(f'padding is "VALID" or "SAME", got {self.padding!r}')
        if len(self.features) < 2:
            raise ValueError(
                f"features needs one entry a level, at least two, got {self.features}"
            )
        if not all(map(is_count, self.features)):
            raise ValueError(
                f"features are integers of at least 1, got {self.features}"
            )
        check_counts(num_classes=self.num_classes)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, (*BATCH, None))
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H', W', K]`.

        Raises:
          ValueError: if H or W is not an accepted side; the nearest accepted ones are named.
        """
        self.geometry.check_image_shape(image.shape)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        *levels, bottom = self.features
        deepest = len(levels)

        def double_conv(x: Array, features: int, name: str) -> Array:
            block = DoubleConv(features, self.padding, self.norm, **types, name=name)
            return block(x, train=train)

        def dropout(x: Array, name: str) -> Array:
            return nn.Dropout(self.dropout_rate, deterministic=not train, name=name)(x)

        x, skips = image, []
        for i, features in enumerate(levels, 1):
            x = double_conv(x, features, f"down{i}")
            if i == deepest:
                x = dropout(x, f"dropout{i}")
            skips.append(x)
            x = max_pool(x, window=2)

        x = double_conv(x, bottom, "bottom")
        x = dropout(x, "dropout_bottom")

        expanding = list(enumerate(zip(levels, skips, strict=True), 1))
        for i, (features, skip) in reversed(expanding):
            x = UpConv(features, **types, name=f"upsample{i}")(x)
            skip = center_crop(skip, size=(x.shape[1], x.shape[2]))
            x = jnp.concatenate([x, skip], axis=-1)
            x = double_conv(x, features, f"up{i}")

        logits = Conv(self.num_classes, kernel_size=(1, 1), **types, name="logits")(x)
        return {"logits": logits.astype(jnp.float32)}

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image down to the bottom and up to the logits."""
        margin = MARGINS[self.padding]
        depth = len(self.features) - 1

        def double_conv(name: str) -> list[Layer]:
            return [Layer(f"{name}/conv{i}", kernel=3, padding=margin) for i in (1, 2)]

        path = []
        for i in range(1, depth + 1):
            path += [
                *double_conv(f"down{i}"),
                Layer(f"pool{i}", kernel=2, stride=2, operation="pool"),
            ]
        path += double_conv("bottom")
        for i in range(depth, 0, -1):
            up = Layer(f"upsample{i}", kernel=2, stride=2, transposed=True)
            path += [up, *double_conv(f"up{i}")]
        return (*path, Layer("logits"))

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        layers = self.layers()
        stride = 2 ** (len(self.features) - 1)
        first, last = input_window(layers, 0, stride)
        reach = max(-first, last - stride)
        if self.padding == "SAME":
            halo = -(-reach // stride) * stride
            return Geometry(stride, margin=0, halo=halo, minimum=stride, offset=0)
        minimum = next(n for n in range(1, 64 * stride) if self._is_accepted(n))
        margin = (minimum - output_size(layers, minimum)) // 2
        return Geometry(
            stride, margin, halo=0, minimum=minimum, offset=minimum % stride
        )

    def _is_accepted(self, side: int) -> bool:
        """Whether every size is positive and every pooled size even, unpadded."""
        for _ in self.features[:-1]:
            side -= 4
            if side < 2 or side % 2:
                return False
            side //= 2
        side -= 4
        for _ in self.features[:-1]:
            side = 2 * side - 4
        return side > 0
