"""Max pooling as XLA has it: the operator that compilers for accelerators know.

A TPU keeps maps in tiles, which slices with a stride work against. With them, and with matrix
products for transposed convolution, a step of the paper's U-Net moves a fifth more bytes on a
v5e.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.forms import is_on_accelerator, platform, wants_stock
from segjax.ops.base.windows import Windows
from segjax.types import Array


def is_stock(rows: Windows, columns: Windows) -> bool:
    """Whether pooling over these windows is left to XLA.

    On a CPU its gradient is slow. On a GPU it adds up in any order where windows overlap, so
    that a run would not repeat its bits.
    """
    if wants_stock():
        return True
    apart = all(w.window <= w.stride for w in (rows, columns))
    return is_on_accelerator() and (apart or platform() == "tpu")


def stock_max_pool(x: Array, rows: Windows, columns: Windows) -> Array:
    """Takes the maximum of each window.

    Of equal maxima the first gets the gradient.

    Args:
      x: maps `[B, H, W, C]`.
      rows: windows along the height.
      columns: windows along the width.

    Returns:
      `[B, h, w, C]`, of the dtype of `x`.
    """
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    lowest = -jnp.inf if floating else jnp.iinfo(x.dtype).min
    return lax.reduce_window(
        x,
        np.array(lowest, x.dtype),  # a number, by which JAX knows that it is a maximum
        lax.max,
        (1, rows.window, columns.window, 1),
        (1, rows.stride, columns.stride, 1),
        ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0)),
    )
