"""Images as the network sees them: normalised, and padded with the mean colour."""

from __future__ import annotations

import jax.numpy as jnp

from segjax.types import Array

DIVISOR = 32
"""Images are padded to multiples of it, below and on the right."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, red, green and blue, in 0 to 1."""


def normalize_and_pad(
    image: Array,
    sizes: Array | None,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Array, Array]:
    """Normalises images, and pads them with 0.

    Args:
      image: `[B, H, W, C]` in 0 to 1.
      sizes: height and width of each image, `[B, 2]`; what lies beyond is set to the
        mean colour. None: the whole image.
      mean: of each channel; subtracted.
      std: of each channel; divided by.

    Returns:
      The images `[B, H', W', C]` with sides divisible by 32, and their sizes `[B, 2]`.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> image = jnp.ones((1, 20, 40, 1))
      >>> x, sizes = normalize_and_pad(image, None, mean=(0.5,), std=(0.25,))
      >>> x.shape, float(x[0, 0, 0, 0]), float(x[0, 20, 0, 0]), sizes.tolist()
      ((1, 32, 64, 1), 2.0, 0.0, [[20, 40]])
    """
    if image.ndim != 4 or image.shape[3] != len(mean):
        raise ValueError(f"image is {image.shape}; allowed is [B, H, W, {len(mean)}]")
    batch, height, width, _ = image.shape
    if sizes is not None and sizes.shape != (batch, 2):
        raise ValueError(f"sizes is {sizes.shape}; allowed is [B, 2], B {batch} here")
    colour, scale = (jnp.asarray(x, jnp.float32)[None, None, None] for x in (mean, std))
    x = (image.astype(jnp.float32) - colour) / scale
    if sizes is None:
        sizes = jnp.broadcast_to(jnp.array([[height, width]]), (batch, 2))
    else:
        rows = jnp.arange(height)[None, :, None] < sizes[:, 0, None, None]
        columns = jnp.arange(width)[None, None, :] < sizes[:, 1, None, None]
        x = jnp.where((rows & columns)[..., None], x, 0)
    padding = [(0, 0), (0, -height % DIVISOR), (0, -width % DIVISOR), (0, 0)]
    return jnp.pad(x, padding), sizes
