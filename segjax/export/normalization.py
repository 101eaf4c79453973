"""The normalisation of `segjax.data.normalization`, inside of programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.normalization import (
    SAMPLED_PIXELS,
    ImageNormalization,
    Percentiles,
    Scale,
    sampled,
    scale_of,
)
from segjax.errors import UserError
from segjax.ops.base.arguments import is_open
from segjax.types import Array


@dataclasses.dataclass(frozen=True)
class ProgramNormalization:
    """How a program brings images as they are stored to the scale of its network.

    A scale is three rows of a value for each channel: what pixels are divided by, what is
    subtracted then, and what they are divided by last (`segjax.data.normalization.Scale`).

    Attributes:
      scale: of all images, `[3, C]` float32; None where each has its own.
      reverse: whether the channels are reversed before, to BGR.
      percentiles: by which each image is scaled; None: by mean and standard deviation.
    """

    scale: np.ndarray | None
    reverse: bool = False
    percentiles: Percentiles | None = None

    def __call__(self, images: Array, scales: Array) -> Array:
        """Normalises images `[B, H, W, C]` by scales `[B, 3, C]` or `[1, 3, C]`; float32."""
        if self.reverse:
            images = images[..., ::-1]
        unit, mean, std = jnp.moveaxis(scales[:, :, None, None], 1, 0)
        return (images.astype(jnp.float32) / unit - mean) / std

    def scales_of(self, images: Array) -> Array:
        """The scales `[B, 3, C]` of images `[B, H, W, C]` by their own pixels."""
        method = self.percentiles
        if method is None:
            return jax.vmap(_by_mean)(images)
        return jax.vmap(lambda image: _by_percentiles(image, method))(images)

    def describe(self) -> dict[str, Any]:
        """How a loader finds the scale of an image, JSON."""
        if self.scale is not None:
            return {"by": "program"}
        if self.percentiles is None:
            return {"by": "mean and standard deviation"}
        learned = self.percentiles.learned
        return {
            "by": "percentiles",
            "low": self.percentiles.low,
            "high": self.percentiles.high,
            "least_spread": None if learned is None else list(learned.spread),
            "sampled_pixels": SAMPLED_PIXELS,
        }


def program_normalization(
    method: ImageNormalization, channels: int, dtype: np.dtype
) -> ProgramNormalization:
    """Makes the normalisation of a program.

    Args:
      method: of the network.
      channels: of the images.
      dtype: of the images.

    Returns:
      The normalisation. Pages of a stack are images of their own in a program.

    Raises:
      UserError: if the method is not for images of this type.

    Example:
      >>> found = program_normalization("tf", 3, np.dtype(np.uint8))
      >>> found.scale[:, 0].tolist()
      [127.5, 1.0, 1.0]
    """
    percentiles = method if isinstance(method, Percentiles) else None
    is_learned = (
        percentiles is not None
        and percentiles.over == "dataset"
        and percentiles.learned is not None
    )
    if method == "per_image" or (percentiles is not None and not is_learned):
        return ProgramNormalization(None, percentiles=percentiles)
    try:
        scale = scale_of(np.zeros((1, 1, channels), dtype), method)
    except ValueError as error:
        raise UserError(
            f"A program for images of {dtype} cannot be made: {error}."
        ) from error
    assert isinstance(scale, Scale)
    rows = (scale.unit, scale.mean or 0.0, scale.std or 1.0)
    filled = [np.broadcast_to(np.asarray(row, np.float32), channels) for row in rows]
    return ProgramNormalization(np.stack(filled), reverse=scale.order == "BGR")


def _by_mean(image: Array) -> Array:
    """The scale `[3, C]` of an image by its mean and standard deviation."""
    pixels = image.astype(jnp.float32)
    mean = _mean(pixels)
    variance = _mean((pixels - mean) ** 2)
    std = jnp.where(variance > 0, jnp.sqrt(variance), 1.0)
    rows = jnp.stack([jnp.ones_like(mean), mean, std])
    return jnp.broadcast_to(rows[:, None], (3, image.shape[-1]))


def _mean(pixels: Array) -> Array:
    # Of rows first: a sum of millions of numbers in float32 would lose digits.
    return pixels.mean(axis=(1, 2)).mean()


def _by_percentiles(image: Array, method: Percentiles) -> Array:
    """The scale `[3, C]` of an image by percentiles, interpolated as NumPy does."""
    height, width, channels = image.shape
    if is_open(height) or is_open(width):  # no grid is known: all pixels count
        pixels = image.reshape(height * width, channels)
    else:
        pixels = sampled(image)
    pixels = jnp.sort(pixels.astype(jnp.float32), axis=0)
    low, high = (_percentile(pixels, q) for q in (method.low, method.high))
    spread = high - low
    if method.learned is not None:
        spread = jnp.maximum(spread, jnp.asarray(method.learned.spread, jnp.float32))
    return jnp.stack([jnp.ones_like(low), low, jnp.where(spread > 0, spread, 1.0)])


def _percentile(ordered: Array, percent: float) -> Array:
    last = ordered.shape[0] - 1
    below: Any
    part: Any
    if is_open(last):
        below, part = _open_place(last, percent)
        above = jnp.minimum(below + 1, last)
    else:
        place = percent / 100 * last
        below, part = int(place), place - int(place)
        above = min(below + 1, last)
    low, high = ordered[below], ordered[above]
    difference = high - low
    return jnp.where(
        part < 0.5, low + difference * part, high - difference * (1 - part)
    )


def _open_place(last: Any, percent: float) -> tuple[Array, Array]:
    """Where a percentile lies among pixels up to `last`, a number that is open.

    In thousandths of a percent, by integers: as float32 the place among a million pixels would
    have no digits behind the point.
    """
    thousandths = round(1000 * percent)
    if abs(thousandths - 1000 * percent) > 1e-6:
        raise UserError(
            f"The images are normalised by the percentile {percent}, which takes more digits "
            "than a program for images of any size computes with: give "
            "--image_size=HEIGHT,WIDTH."
        )
    thousands, ones = jnp.divmod(jnp.asarray(last, jnp.int32), 1000)
    whole, rest = jnp.divmod(thousands * thousandths, 100)
    more, beyond = jnp.divmod(rest * 1000 + ones * thousandths, 100_000)
    return whole + more, beyond.astype(jnp.float32) / 100_000
