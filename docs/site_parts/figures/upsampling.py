"""Six ways back to full resolution, on one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.viz import plot_maps

from . import packed, quantized, rounded, scenes, unpacked

TITLE = "Ways back to full resolution"
CAPTION = (
    "An image of 32 x 32 pixels is max-pooled, and enlarged again. Choose the way and the factor, and move "
    "over the three pictures: the values under the cursor, and the mean error over all pixels. Index "
    "unpooling remembers where each maximum was; bed of nails does not. All by `segjax.ops`."
)
ALTERNATIVE = "The image, its max-pooled form, and five enlargements of that."

SIDE = 32
FACTORS = (2, 4)


def original() -> np.ndarray:
    """The image: shapes in shades of grey, slightly blurred, `[32, 32]` from 0 to 1."""
    label = scenes.shapes(64)
    shades = jnp.asarray(np.array([0.1, 0.9, 0.7, 0.5], np.float32)[label])
    return np.asarray(ops.avg_pool(shades[None, :, :, None], window=2))[0, :, :, 0]


def ways(factor: int) -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    """Each way, as a function of the pooled map and of the indices of its maxima.

    Args:
      factor: by which the map was made smaller.

    Returns:
      The functions, by names for the reader.
    """
    size = (SIDE, SIDE)
    kernel = ops.bilinear_kernel(2 * factor)
    return {
        "nearest neighbour": lambda x, _: ops.upsample_nearest(x, factor=factor),
        "bed of nails": lambda x, _: ops.bed_of_nails(x, factor=factor),
        "index unpooling": lambda x, i: ops.max_unpool(x, i, size=size, window=factor),
        "bilinear, edges": lambda x, _: ops.resize_bilinear(x, size=size),
        "bilinear, corners": lambda x, _: ops.resize_bilinear(
            x, size=size, align_corners=True
        ),
        "transposed convolution, bilinear kernel": lambda x, _: ops.conv_transpose(
            x, kernel, stride=factor, padding=factor // 2
        ),
    }


def data() -> dict[str, Any]:
    """The image, and for both factors the pooled map and all enlargements."""
    image = original()
    found: dict[str, Any] = {"side": SIDE, "image": packed(quantized(image))}
    for factor in FACTORS:
        small, where = ops.max_pool_with_indices(
            jnp.asarray(image)[None, :, :, None], window=factor
        )
        results = {
            name: np.asarray(way(small, where))[0, :, :, 0]
            for name, way in ways(factor).items()
        }
        found[str(factor)] = {
            "small": packed(quantized(np.asarray(small)[0, :, :, 0])),
            "ways": {name: packed(quantized(x)) for name, x in results.items()},
            "errors": {
                name: rounded(abs(x - image).mean(), 4) for name, x in results.items()
            },
        }
    return found


def picture(data: dict[str, Any]) -> Image.Image:
    """Everything at factor 4."""
    at = data["4"]
    panels = [
        ("image", unpacked(data["image"], (SIDE, SIDE))),
        ("max-pooled", unpacked(at["small"], (SIDE // 4, SIDE // 4))),
    ]
    panels += [
        (name.split(", b")[0], unpacked(text, (SIDE, SIDE)))
        for name, text in at["ways"].items()
    ]
    return plot_maps(panels, colormap="gray", side=1.7, dpi=80)
