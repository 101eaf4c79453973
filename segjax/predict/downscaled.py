"""Networks that were trained on smaller images than the files: there and back again.

Where `config.data.downscale` made training images smaller, the objects of a full-size
photograph are too large for the network by that factor. So the photograph is reduced by the
same factor, and the output is enlarged to the size of the photograph. A reduced pixel lies
at the middle of its block; the labels of training, which take one pixel of each block, are
at most half a pixel of the photograph away from there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from segjax.data.downscale import area_average
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.tiled import select_outputs
from segjax.types import Array


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of pixels, as training did.

    Args:
      image: as it was stored, `[H, W, C]`, integers.
      factor: side of a block; blocks that reach beyond the image see its last row and
        column again.

    Returns:
      `[h, w, C]` of the same type, sides divided by the factor and rounded up.

    Example:
      >>> reduced(np.array([[[0], [2], [5]]], np.uint8), 2).ravel().tolist()
      [1, 5]
    """
    if factor == 1:
        return image
    rest = [(0, -side % factor) for side in image.shape[:2]]
    return area_average(np.pad(image, (*rest, (0, 0)), mode="edge"), factor)


def enlarged(
    page: Mapping[str, np.ndarray],
    factor: int,
    size: tuple[int, ...],
    outputs: Sequence[str],
) -> dict[str, np.ndarray]:
    """Enlarges logits bilinearly to the pixels of the image that was reduced.

    Args:
      page: with `logits` `[h, w, K]`.
      factor: of the reduction.
      size: height and width of the image before it.
      outputs: keys of `segjax.predict.tiled.OUTPUTS`.

    Returns:
      An array `[H, W]` or `[H, W, K]` for each output.
    """
    height, width = size
    answer = _answer(page["logits"], factor, (height, width), tuple(outputs))
    return jax.device_get(answer)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _answer(
    logits: Array, factor: int, size: tuple[int, int], outputs: tuple[str, ...]
) -> dict[str, Array]:
    height, width, _ = logits.shape
    large = resize_bilinear(logits[None], size=(height * factor, width * factor))
    large = large[0, : size[0], : size[1]]
    return select_outputs(large, outputs)
