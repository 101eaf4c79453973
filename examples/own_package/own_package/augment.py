"""An augmentation: a function of an example and a generator that gives an example."""

from __future__ import annotations

import numpy as np


def invert(
    example: dict[str, np.ndarray],
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
) -> dict[str, np.ndarray]:
    """Exchanges bright and dark in some images.

    Args:
      example: `image` `[H, W, C]` float32, normalised, `label` and `weight` `[H, W]`.
      rng: the only source of randomness.
      probability: how often.

    Returns:
      The example; what came in is not written to.
    """
    if rng.random() >= probability:
        return example
    return example | {"image": -example["image"]}
