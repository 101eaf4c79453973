"""What networks share that unpool with the indices of their encoder.

SegNet (Badrinarayanan et al. 2017, arXiv 1511.00561) and DeconvNet (Noh et al. 2015,
arXiv 1505.04366) remember where each maximum was, and write the values of the decoder
there. Both normalise behind convolutions that have a bias, as Caffe's layers do.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal
from segjax.layers.norm import BatchNorm
from segjax.ops.conv import Padding
from segjax.ops.pool import max_pool_with_indices, max_unpool
from segjax.types import Array, Dtype


def pool(x: Array) -> tuple[Array, Array]:
    """Takes the maximum of 2x2 blocks, of which the last may hang over (Caffe's sizes).

    Odd sides get one more row or column of the lowest number, so that every size takes
    the quick form of pooling.

    Args:
      x: maps `[B, H, W, C]`.

    Returns:
      The maxima `[B, ceil(H / 2), ceil(W / 2), C]`, and their positions for `unpool`.

    Example:
      >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> pool(x)[0][0, :, :, 0].tolist()
      [[4.0, 5.0], [7.0, 8.0]]
    """
    rest = (0, x.shape[1] % 2), (0, x.shape[2] % 2)
    if any(after for _, after in rest):
        lowest = jnp.finfo(x.dtype).min
        x = jnp.pad(x, ((0, 0), *rest, (0, 0)), constant_values=lowest)
    return max_pool_with_indices(x, window=2)


def unpool(x: Array, indices: Array, *, size: tuple[int, int]) -> Array:
    """Writes values to where `pool` found its maxima, in a map of zeros.

    Args:
      x: values `[B, h, w, C]`.
      indices: positions `[B, h, w, C]`, from `pool`.
      size: height and width of the map that `pool` was given.

    Returns:
      `[B, *size, C]`.

    Example:
      >>> maxima, indices = pool(jnp.arange(9.0).reshape(1, 3, 3, 1))
      >>> unpool(maxima, indices, size=(3, 3))[0, :, :, 0].tolist()
      [[0.0, 0.0, 0.0], [0.0, 4.0, 5.0], [0.0, 7.0, 8.0]]
    """
    even = 2 * x.shape[1], 2 * x.shape[2]
    height, width = size
    return max_unpool(x, indices, size=even, window=2)[:, :height, :width]


class BiasedConvNorm(nn.Module):
    """A convolution with a bias, batch normalisation, and a ReLU where asked for.

    The bias changes nothing in training, since the norm takes it away again; it is
    there because the published networks have it.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel.
      padding: rows and columns of zeros on each side; None keeps the size.
      relu: whether a ReLU follows the norm.
      norm_momentum: share of the old running statistics that each step keeps.
      norm_epsilon: added to the variance.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
      kernel_init: initial kernel, from key, shape and dtype.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    padding: Padding | None = None
    relu: bool = True
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        padding = self.padding
        if padding is None:
            padding = (self.kernel_size[0] // 2, self.kernel_size[1] // 2)
        x = Conv(
            self.features,
            self.kernel_size,
            padding=padding,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        norm = BatchNorm(
            self.norm_momentum, self.norm_epsilon, self.param_dtype, name="norm"
        )
        x = norm(x, train=train)
        return nn.relu(x) if self.relu else x
