"""Convolutions along one axis, written out as the matrices that they are.

As textbooks show them: the rows of the matrix of a convolution hold the kernel, moved by
the stride from row to row; its transpose is the matrix of the transposed convolution.
For reading, and as an independent check of `ops.convolution.convolve`; nothing here is meant to be fast.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from segjax.types import Array


def conv_matrix(
    kernel: Array, size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Array:
    """Writes the convolution of `size` samples as a matrix.

    Columns that would meet the padding are left out, since zeros stand there.

    Args:
      kernel: taps `[k]`.
      size: number of samples, N.
      stride: samples from one output to the next.
      padding: zeros on each side.
      dilation: samples from one tap to the next.

    Returns:
      The matrix `[n, N]` with `n = (N + 2 padding - dilation (k - 1) - 1) // stride + 1`.
      `matrix @ signal` is the convolution, `matrix.T @ signal` its adjoint.

    Raises:
      ValueError: an option is out of its range, or the kernel does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> matrix = conv_matrix(jnp.array([2.0, 3.0, 5.0]), 4, padding=1)
      >>> matrix.tolist()
      [[3.0, 5.0, 0.0, 0.0], [2.0, 3.0, 5.0, 0.0], [0.0, 2.0, 3.0, 5.0], [0.0, 0.0, 2.0, 3.0]]
      >>> (matrix @ jnp.array([1.0, 2.0, 3.0, 4.0])).tolist()
      [13.0, 23.0, 33.0, 18.0]
    """
    _check_kernel(kernel)
    limits = {"size": (size, 1), "stride": (stride, 1)}
    limits |= {"padding": (padding, 0), "dilation": (dilation, 1)}
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    reach = dilation * (kernel.shape[0] - 1) + 1
    count = (size + 2 * padding - reach) // stride + 1
    if count < 1:
        raise ValueError(
            f"size {size} with padding {padding} is below the {reach} samples that "
            f"the kernel {kernel.shape} needs at dilation {dilation}."
        )
    row = np.arange(count)[:, None]
    position = stride * row - padding + dilation * np.arange(kernel.shape[0])
    row, position = np.broadcast_arrays(row, position)
    inside = (position >= 0) & (position < size)
    taps = jnp.broadcast_to(kernel, position.shape)
    matrix = jnp.zeros((count, size), kernel.dtype)
    return matrix.at[row[inside], position[inside]].set(taps[inside])


def conv_transpose_matrix(
    kernel: Array,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Array:
    """Writes the transposed convolution of `size` samples as a matrix.

    It is the transpose of `conv_matrix` for the signal that this one puts out.

    Args:
      kernel: taps `[k]`.
      size: number of samples, n.
      stride: outputs from one sample to the next.
      padding: outputs cropped from each side.
      output_padding: outputs added at the end.
      dilation: outputs from one tap to the next.

    Returns:
      The matrix `[N, n]` with
      `N = (n - 1) stride - 2 padding + dilation (k - 1) + 1 + output_padding`.

    Raises:
      ValueError: an option is out of its range, or nothing is left of the output.

    Example:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.array([2.0, 3.0, 5.0])
      >>> matrix = conv_transpose_matrix(kernel, 2, stride=2, padding=1)
      >>> (matrix @ jnp.array([1.0, 2.0])).tolist()
      [3.0, 9.0, 6.0]
    """
    _check_kernel(kernel)
    if not 0 <= output_padding < max(stride, dilation):
        raise ValueError(
            f"output_padding must be below stride {stride} or dilation {dilation}, "
            f"and not negative, got {output_padding}."
        )
    reach = dilation * (kernel.shape[0] - 1) + 1
    length = (size - 1) * stride - 2 * padding + reach + output_padding
    if length < 1:
        raise ValueError(
            f"padding {padding} crops the whole output of size {size} and kernel "
            f"{kernel.shape}."
        )
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    matrix = conv_matrix(kernel, length, **options)
    # Output padding of a stride or more adds samples that the input does not have.
    return matrix[:size].T


def _check_kernel(kernel: Array) -> None:
    if kernel.ndim != 1:
        raise ValueError(f"kernel must have 1 axis, got shape {kernel.shape}.")
