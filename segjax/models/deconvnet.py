"""DeconvNet: VGG-16 down to one vector, and its mirror image up again.

Noh, Hong, Han, ICCV 2015, arXiv 1505.04366; layers and their names are those of the
authors' release. The network is made for crops of 224x224 pixels around one object.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer, input_window
from segjax.geometry.input_sizes import Geometry
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.conv import Conv
from segjax.layers.initializers import he_normal
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.layers.unpool import pool, unpool
from segjax.ops.base.kernels import apply_kernel
from segjax.types import Array, Dtype, Outputs


class FullyConnectedTranspose(nn.Module):
    """The transposed convolution of stride 1 that makes a window of each pixel.

    It is one matrix product and sums of moved maps: there are few pixels, and a
    convolution would mostly multiply the zeros around them.

    Attributes:
      features: output channels.
      window: side of the kernel.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    window: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, h, w, C]` to `[B, h + window - 1, w + window - 1, features]`."""
        side, channels = self.window, x.shape[-1]
        shape = (side, side, self.features, channels)
        kernel = self.param("kernel", he_normal(channels), shape, self.param_dtype)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.features,), self.param_dtype)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = apply_kernel(_windows, x, kernel, inputs=3)
        return x + bias.astype(self.dtype)[None, None, None]


def _windows(x: Array, kernel: Array) -> Array:
    """The sum of the windows `[kh, kw, F, C]` that the pixels of `[B, h, w, C]` make."""
    maps = jnp.einsum("bhwc,uvfc->vubhwf", x, kernel)
    return _sum_moved(_sum_moved(maps, axis=3), axis=1)


def _sum_moved(maps: Array, *, axis: int) -> Array:
    """Sums maps `[taps, ...]`, of which map t is moved by t pixels along an axis."""
    taps = maps.shape[0]
    rest = [(0, 0)] * (maps.ndim - 2 - axis)

    def moved(t: int) -> Array:
        return jnp.pad(maps[t], [(0, 0)] * axis + [(t, taps - 1 - t), *rest])

    total = moved(0)
    for t in range(1, taps):
        total = total + moved(t)
    return total


class DeconvNet(nn.Module):
    """Convolutions, pooling, unpooling with the same indices, convolutions.

    The paper's own: `DeconvNet(num_classes=21)`, 251,805,653 parameters for RGB. The
    transposed convolutions 3x3 of the release are convolutions with the kernel
    flipped, and are written as such. Larger images give fc6 and fc7 more than one
    position; then each sees a crop of 224x224, and their windows add up. The shifts of
    batch normalisation start at 0 (0.001 in the release).

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution down.
      depths: convolutions of each level.
      fc_features: channels of fc6 and fc7.
      window: side of the map that fc6 takes as a whole.
      norm: what follows each convolution, of the kind "batch". The authors measure the
        statistics anew after training, and add 1e-9 to the variance.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    fc_features: int = 4096
    window: int = 7
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes,
            features=self.features,
            depths=self.depths,
            fc_features=self.fc_features,
            window=self.window,
        )
        if len(self.depths) != len(self.features):
            raise ValueError(
                f"depths holds one number a level, as features does; it has "
                f"{len(self.depths)} for {len(self.features)}"
            )
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        Raises:
          ValueError: if H or W is not an accepted side; the nearest accepted ones are named.
        """
        self.geometry.check_image_shape(image.shape)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        levels = list(enumerate(zip(self.features, self.depths, strict=True), 1))
        x, pooled = image.astype(self.dtype), []
        for i, (features, depth) in levels:
            convs = [(features, f"conv{i}_{j}") for j in range(1, depth + 1)]
            x = self._stack(x, convs, train)
            size = x.shape[1], x.shape[2]
            x, indices = pool(x)
            pooled.append((indices, size))

        x = self._conv_norm(x, self.fc_features, "fc6", train, self.window, 0)
        x = self._conv_norm(x, self.fc_features, "fc7", train, 1, 0)
        x = FullyConnectedTranspose(
            self.features[-1], self.window, **types, name="fc6_deconv"
        )(x)
        x = self._normalized(x, "fc6_deconv", train)

        for i, (features, depth) in reversed(levels):
            indices, size = pooled[i - 1]
            x = unpool(x, indices, size=size)
            convs = [(features, f"deconv{i}_{j}") for j in range(1, depth)]
            convs.append((self.features[max(i - 2, 0)], f"deconv{i}_{depth}"))
            x = self._stack(x, convs, train)
        logits = Conv(self.num_classes, (1, 1), **types, name="logits")(x)
        return {"logits": logits.astype(jnp.float32)}

    def _stack(self, x: Array, convs: list[tuple[int, str]], train: bool) -> Array:
        """Convolutions of these widths and names, one after the other."""
        for features, name in convs:
            x = self._conv_norm(x, features, name, train)
        return x

    def _conv_norm(
        self,
        x: Array,
        features: int,
        name: str,
        train: bool,
        side: int = 3,
        padding: int = 1,
    ) -> Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = Conv(features, (side, side), padding=padding, **types, name=name)
        return self._normalized(conv(x), name, train)

    def _normalized(self, x: Array, name: str, train: bool) -> Array:
        name = name.replace("conv", "norm") if name[0] == "c" else f"norm_{name}"
        types = {"param_dtype": self.param_dtype, "name": name}
        return nn.relu(normalize(x, self.norm, train=train, **types))

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image down to fc7 and up again."""

        def convs(name: str, depth: int) -> list[Layer]:
            names = (f"{name}_{j}" for j in range(1, depth + 1))
            return [Layer(name, kernel=3, padding=1) for name in names]

        path = []
        levels = list(enumerate(self.depths, 1))
        for i, depth in levels:
            path += convs(f"conv{i}", depth)
            path.append(Layer(f"pool{i}", kernel=2, stride=2, operation="pool"))
        path += [Layer("fc6", kernel=self.window), Layer("fc7")]
        path.append(Layer("fc6_deconv", kernel=self.window, transposed=True))
        for i, depth in reversed(levels):
            path.append(Layer(f"unpool{i}", kernel=2, stride=2, transposed=True))
            path += convs(f"deconv{i}", depth)
        return (*path, Layer("logits"))

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        stride = 2 ** len(self.features)
        first, last = input_window(self.layers(), 0, stride)
        halo = -(-max(-first, last - stride) // stride) * stride
        return Geometry(stride, halo=halo, minimum=self.window * stride)
