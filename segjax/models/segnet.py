"""SegNet: a decoder that writes its maps to where the encoder found its maxima.

Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561; what the text leaves open
is as in the authors' release. Bayesian SegNet (arXiv 1511.02680) is the same network
with dropout.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from segjax.layers.attributes import check_counts, check_dtypes, check_shares
from segjax.layers.conv import Conv
from segjax.layers.unpool import BiasedConvNorm, pool, unpool
from segjax.ops.receptive_field import Layer, input_window
from segjax.ops.tiles import Geometry
from segjax.types import Array, Dtype, Outputs

SIDE = 7
"""Side of every kernel of SegNet-Basic."""


class SegNetBasic(nn.Module):
    """Four encoders and four decoders of one 7x7 convolution each.

    The paper's own: `SegNetBasic(num_classes=11)`, 1,416,587 parameters for RGB. Any
    size is legal: pooling rounds up, and unpooling goes back to the size it came from.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of each level, from full resolution down.
      norm_momentum: share of the old running statistics that each step keeps. The
        paper measures them anew after training instead.
      norm_epsilon: added to the variance.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 64, 64, 64)
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, features=self.features)
        check_shares(norm_momentum=self.norm_momentum)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def block(x: Array, features: int, relu: bool, name: str) -> Array:
            module = BiasedConvNorm(
                features,
                (SIDE, SIDE),
                relu=relu,
                norm_momentum=self.norm_momentum,
                norm_epsilon=self.norm_epsilon,
                **types,
                name=name,
            )
            return module(x, train=train)

        x, pooled = _normalize_response(image), []
        for i, features in enumerate(self.features, 1):
            x = block(x, features, True, f"encoder{i}")
            size = x.shape[1], x.shape[2]
            x, indices = pool(x)
            pooled.append((indices, size))
        above = (self.features[0], *self.features)
        for i in range(len(self.features), 0, -1):
            indices, size = pooled[i - 1]
            x = unpool(x, indices, size=size)
            x = block(x, above[i - 1], False, f"decoder{i}")
        logits = Conv(self.num_classes, (1, 1), **types, name="logits")(x)
        return {"logits": logits.astype(jnp.float32)}

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image down to the last pooling and up again."""
        margin = SIDE // 2
        path = []
        for i in range(1, len(self.features) + 1):
            path.append(Layer(f"encoder{i}/conv", SIDE, padding=margin))
            path.append(Layer(f"pool{i}", 2, stride=2, ceil_mode=True))
        for i in range(len(self.features), 0, -1):
            path.append(Layer(f"unpool{i}", 2, stride=2, transposed=True))
            path.append(Layer(f"decoder{i}/conv", SIDE, padding=margin))
        return (*path, Layer("logits"))

    @property
    def geometry(self) -> Geometry:
        """Which input sides are legal, and what tiles must know."""
        return _geometry(self.layers(), 2 ** len(self.features))


def _geometry(layers: tuple[Layer, ...], stride: int) -> Geometry:
    """That of a network of zero padding and any size, whose poolings make `stride`."""
    first, last = input_window(layers, 0, stride)
    reach = max(-first, last - stride)
    halo = -(-reach // stride) * stride
    return Geometry(stride, margin=0, halo=halo, minimum=1, offset=None)


def _normalize_response(x: Array) -> Array:
    """Local response normalisation over 5 channels, as the release does to the image.

    Krizhevsky, Sutskever, Hinton 2012, section 3.3, in Caffe's form, with alpha 1e-4 and
    beta 0.75.
    """
    wide = x.astype(jnp.float32)
    squares = lax.reduce_window(
        wide * wide, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME"
    )
    return (wide * (1.0 + 1e-4 / 5 * squares) ** -0.75).astype(x.dtype)
