"""Images that are brought to the scale of the network where a tile is cut, and not before."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from segjax.data.normalization import Normalize


class ScaledImage:
    """An image as it is stored, whose windows come as the network wants them.

    In float32 a page has up to four times the bytes of its file, and only tiles of it are
    needed at a time: `image[rows, columns]`, or `np.asarray(image)` for all.

    Attributes:
      shape: height, width and channels.
      ndim: 3.
      dtype: float32.

    Example:
      >>> image = ScaledImage(np.array([[[0], [51]]], np.uint8), lambda x: np.float32(x) / 255)
      >>> image.shape, round(image[0:1, 1:2].item(), 3)
      ((1, 2, 1), 0.2)
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, stored: np.ndarray, scale: Normalize):
        """Takes an image `[H, W, C]`, and what is done to each of its pixels."""
        self._stored, self._scale = stored, scale
        self.shape: tuple[int, ...] = (*stored.shape[:2], self[:1, :1].shape[-1])

    def __getitem__(self, window: tuple[Any, Any]) -> np.ndarray:
        return self._scale(self._stored[window])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._scale(self._stored), dtype)


NormalizedImage: TypeAlias = np.ndarray | ScaledImage
"""Float32 `[H, W, C]`, there or to be made."""
