"""Kernels without the rows and columns of taps that read nothing but padding.

At a large dilation on a small map they are most of a kernel (Chen et al. 2017, arXiv
1706.05587, section 3.3: it "degenerates"), and no backend has to multiply them by zeros.
"""

from __future__ import annotations

from jax import lax

from segjax.ops.base.lax_conv import Options
from segjax.types import Array


def drop_unseen_taps(
    x: Array, kernel: Array, options: Options
) -> tuple[Array, Options]:
    """Crops a kernel to the rows and columns of taps that read the map at all.

    Args:
      x: feature map `[B, H, W, C]`.
      kernel: `[kh, kw, C / groups, F]`.
      options: where the taps lie.

    Returns:
      A kernel and options that give the same numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> x, kernel = jnp.ones((1, 8, 8, 1)), jnp.ones((3, 3, 1, 1))
      >>> options = Options((1, 1), ((8, 8), (2, 2)), (8, 2), groups=1)
      >>> drop_unseen_taps(x, kernel, options)[0].shape
      (1, 3, 1, 1)
    """
    pads = list(options.pads)
    for axis, outputs in enumerate(options.output_size(x, kernel)):
        taps, apart = kernel.shape[axis], options.dilation[axis]
        low, high = pads[axis]
        last = (outputs - 1) * options.stride[axis]
        seen = [
            tap
            for tap in range(taps)
            if tap * apart - low < x.shape[1 + axis] and tap * apart - low + last >= 0
        ]
        if not seen:
            continue
        first, end = seen[0], seen[-1] + 1
        kernel = lax.slice_in_dim(kernel, first, end, axis=axis)
        pads[axis] = (low - apart * first, high - apart * (taps - end))
    return kernel, options._replace(pads=(pads[0], pads[1]))
