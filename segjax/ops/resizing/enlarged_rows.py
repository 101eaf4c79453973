"""Enlargement of rows that several devices share, as a convolution.

For a convolution XLA fetches the rows at the border of a device's part. For a gather, or a product of
matrices, along rows that are divided each device would have the whole map.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.types import Array


def whole_factor(rule: str, inputs: int, outputs: int) -> int | None:
    """By which whole number rows are enlarged; None where it is none.

    Args:
      rule: "corners" or "edges", see `segjax.ops.resizing.resampling.Resampling`.
      inputs: rows before.
      outputs: rows after.

    Returns:
      Output rows from one input row to the next.

    Example:
      >>> whole_factor("corners", 33, 129), whole_factor("edges", 33, 129)
      (4, None)
    """
    gaps = (inputs - 1, outputs - 1) if rule == "corners" else (inputs, outputs)
    if rule == "nearest" or not gaps[0] or gaps[1] % gaps[0]:
        return None
    return gaps[1] // gaps[0]


def enlarge_rows(x: Array, rule: str, factor: int) -> Array:
    """Interpolates linearly between rows.

    Input row i lies at `factor i` among the rows of zeros between; output row o at
    `o + (1 - factor) / 2` where outer edges of the map stay in place, else at o. Each is the mean of
    the rows nearer than `factor`, weighted by how near they are. Beyond the border there is no row:
    a weight that is alone counts for both.

    Args:
      x: maps `[B, H, W, C]`.
      rule: "corners" or "edges".
      factor: of `whole_factor`.

    Returns:
      `[B, H', W, C]`, `H' = factor (H - 1) + 1` between corners, else `factor H`.

    Example:
      >>> import jax.numpy as jnp
      >>> enlarge_rows(jnp.array([0.0, 4.0]).reshape(1, 2, 1, 1), "edges", 2).ravel().tolist()
      [0.0, 1.0, 3.0, 4.0]
    """
    batch, height, width, channels = x.shape
    offset = 0.0 if rule == "corners" else (1 - factor) / 2
    size = factor * (height - 1) + 1 if rule == "corners" else factor * height
    first = math.floor(offset - factor) + 1
    taps = np.arange(first, math.ceil(offset + factor))
    weights = 1 - abs(taps - offset) / factor
    stretched = factor * (height - 1) + 1
    low = -first
    high = size + len(taps) - 1 - stretched - low

    marks = np.zeros(low + stretched + max(high, 0))
    marks[low : low + stretched : factor] = 1
    total = np.convolve(marks, weights[::-1], "valid")[:size]
    y = lax.conv_general_dilated(
        x.reshape(batch, height, width * channels, 1),
        jnp.asarray(weights, x.dtype).reshape(-1, 1, 1, 1),
        window_strides=(1, 1),
        padding=((low, high), (0, 0)),
        lhs_dilation=(factor, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    y = y.reshape(batch, size, width, channels)
    return y * jnp.asarray(1 / total, x.dtype)[None, :, None, None]
