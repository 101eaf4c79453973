"""The intensities of a training split, counted once, when a run begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.data.normalization import Intensities, Percentiles, sampled
from segjax.types import Record

COUNTED_IMAGES = 256
"""Of a larger split, as many images are counted, evenly spread."""

DIMMEST = 10.0
"""Percentile of the training images' spreads that is the floor: a tenth of them is dimmer."""

POOLED_PIXELS = 1 << 14
"""Of each image, at most, for the percentiles of all."""


def count_intensities(records: Sequence[Record], method: Percentiles) -> Intensities:
    """Counts what a normalisation by percentiles learns from the training images.

    The spread of an image is the difference between its two percentiles. The floor is
    that of which a tenth of the images stay below: one of them may be empty, so the
    smallest says nothing. Images are read once each.

    Args:
      records: of the training split, at least one.
      method: whose percentiles are meant.

    Returns:
      The numbers, the same ones for the same records.

    Example:
      >>> images = [np.array([[[0], [n]]], np.uint8) for n in (10, 20, 200)]
      >>> records = [{"image": image} for image in images]
      >>> count_intensities(records, Percentiles(0, 100))
      Intensities(spread=(12.0,), low=(0.0,), high=(200.0,))
    """
    places = np.linspace(0, len(records) - 1, min(len(records), COUNTED_IMAGES))
    spreads, pixels = [], []
    for i in places.round():
        image = records[int(i)]["image"]
        low, high = method.bounds(image)
        spreads.append(high - low)
        pixels.append(sampled(image, POOLED_PIXELS))
    pooled = np.percentile(np.concatenate(pixels), (method.low, method.high), axis=0)
    spread, low, high = (
        tuple(np.asarray(x, float).tolist())
        for x in (np.percentile(spreads, DIMMEST, axis=0), *pooled)
    )
    return Intensities(spread, low, high)
