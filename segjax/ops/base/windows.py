"""Where pooling windows lie."""

from __future__ import annotations

from typing import NamedTuple

from jax import lax

from segjax.ops.base.arguments import Pair, check_maps, pair
from segjax.types import Array


class Windows(NamedTuple):
    """The windows along one axis: where they start, and the padding they need."""

    axis: int
    window: int
    stride: int
    before: int
    after: int
    number: int

    def taps(self, x: Array) -> list[Array]:
        """The first element of every window, the second of every window, and so on."""
        span = (self.number - 1) * self.stride + 1
        return [
            lax.slice_in_dim(x, tap, tap + span, self.stride, self.axis)
            for tap in range(self.window)
        ]

    def widths(self) -> list[tuple[int, int]]:
        """Padding of all four axes, in the form of `jnp.pad`."""
        pads = [(0, 0)] * 4
        pads[self.axis] = (self.before, self.after)
        return pads


def place_windows(
    x: Array, window: Pair, stride: Pair | None, padding: Pair, ceil_mode: bool
) -> tuple[Windows, Windows]:
    """Places the windows along rows and columns, by the rules of PyTorch.

    Args:
      x: maps `[B, H, W, C]`.
      window: height and width of a window, pixels.
      stride: distance of two windows; None is the window's own size.
      padding: rows and columns on each side that belong to no pixel.
      ceil_mode: whether a last window that is not full counts.

    Returns:
      The windows along rows, and those along columns.
    """
    check_maps(x)
    windows = pair("window", window, 1)
    strides = windows if stride is None else pair("stride", stride, 1)
    paddings = pair("padding", padding, 0)
    placed = []
    for i, (k, s, p) in enumerate(zip(windows, strides, paddings, strict=True)):
        size = x.shape[1 + i]
        if p > k // 2:
            raise ValueError(
                f"padding is {padding}; allowed is at most half of window, {window}"
            )
        room = size + 2 * p - k
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if (count - 1) * s >= size + p:
            count -= 1
        if count < 1:
            raise ValueError(
                f"window is {window}, larger than the padded map of x, whose shape is "
                f"{x.shape}; allowed is at most {size + 2 * p} along axis {1 + i}"
            )
        after = max(0, (count - 1) * s + k - size - p)
        placed.append(Windows(1 + i, k, s, p, after, count))
    return placed[0], placed[1]
