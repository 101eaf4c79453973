"""Enlarging by a transposed convolution that starts, or stays, bilinear."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.layers.initializers import bilinear
from segjax.ops.resizing.upsample import upsample_bilinear, upsample_conv
from segjax.types import Array, Dtype


class Upsample(nn.Module):
    """A transposed convolution without bias, from C channels to C.

    Long, Shelhamer & Darrell 2015, arXiv 1411.4038, section 3.3: the kernel begins as
    bilinear interpolation of each channel by itself. Fixed, it has no parameters;
    learned, it is dense over channels as in the authors' release.

    Attributes:
      factor: output pixels from one input pixel to the next.
      taps: side of the kernel, at most `2 factor`.
      learned: whether the kernel is a parameter.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    factor: int
    taps: int
    learned: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, factor (H - 1) + taps, factor (W - 1) + taps, C]`."""
        x = x.astype(self.dtype)
        if not self.learned:
            return upsample_bilinear(x, factor=self.factor, taps=self.taps)
        channels = x.shape[-1]
        shape = (self.taps, self.taps, channels, channels)
        kernel = self.param("kernel", bilinear(), shape, self.param_dtype)
        return upsample_conv(x, kernel.astype(self.dtype), factor=self.factor)
