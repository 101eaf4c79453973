"""Initial weights: on a CPU of NumPy's random numbers, on accelerators of JAX's.

`jax.random.normal` compiles anew for each shape, about 0.3 s apiece on a CPU: a small
U-Net took 13 s to initialise. NumPy's Philox stream needs no compilation. But it is a call
back to the host, which no program has that is lowered for another machine. So with one seed
all CPUs begin with the same weights, and all accelerators with the same others.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.base.forms import is_on_accelerator
from segjax.ops.resizing.resize import bilinear_kernel
from segjax.types import Array, Dtype

Initializer = Callable[[Array, tuple[int, ...], Dtype], Array]


def he_normal(fan_in: int | None = None) -> Initializer:
    """Normal weights of variance 2 / fan_in (He et al. 2015, arXiv 1502.01852).

    Args:
      fan_in: connections that come into one unit; by default that of a convolution
        kernel `[kh, kw, C, F]`, the product of all axes but the last.

    Returns:
      A function of key, shape and dtype, as Flax expects it.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = np.float32) -> Array:
        incoming = fan_in or int(np.prod(shape[:-1]))
        return _normal(key, shape, dtype, np.float32(np.sqrt(2.0 / incoming)))

    return init


def normal(std: float) -> Initializer:
    """Normal weights of a given standard deviation.

    Args:
      std: the standard deviation; papers of Caffe's time have 0.01 and 0.001.

    Returns:
      A function of key, shape and dtype.

    Raises:
      ValueError: if `std` is negative.
    """
    if std < 0:
        raise ValueError(f"std is at least 0, got {std}")

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = np.float32) -> Array:
        return _normal(key, shape, dtype, np.float32(std))

    return init


def zeros() -> Initializer:
    """Zeros, with which FCN initialises its score layers.

    Returns:
      A function of key, shape and dtype.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = np.float32) -> Array:
        del key
        return jnp.zeros(shape, dtype)

    return init


def bilinear() -> Initializer:
    """Weights with which a transposed convolution interpolates each channel by itself.

    Returns:
      A function of key, shape and dtype; the shape is that of a kernel of
      `ops.convolution.transposed.conv_transpose` with one group and as many channels before as after,
      `[taps, taps, C, C]`.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = np.float32) -> Array:
        del key
        taps, columns, features, channels = shape
        if taps != columns or features != channels:
            raise ValueError(f"shape is {shape}; allowed is (taps, taps, C, C)")
        return bilinear_kernel(taps, channels=channels).astype(dtype)

    return init


def _normal(key: Array, shape: tuple[int, ...], dtype: Dtype, std: np.float32) -> Array:
    if is_on_accelerator():
        return (jax.random.normal(key, shape, jnp.float32) * std).astype(dtype)

    def sample(words: np.ndarray) -> np.ndarray:
        seed = np.random.SeedSequence(np.asarray(words, np.uint32).ravel().tolist())
        generator = np.random.Generator(np.random.Philox(seed))
        return (generator.standard_normal(shape, np.float32) * std).astype(dtype)

    result = jax.ShapeDtypeStruct(shape, dtype)
    return jax.pure_callback(sample, result, jax.random.key_data(key))
