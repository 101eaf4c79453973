"""Averaging a prediction over flips and quarter turns of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from segjax.predict.heads import SOFTMAX, Head
from segjax.types import Array

Apply = Callable[[Any, Array], Array]
"""Maps variables and images `[B, H, W, C]` to logits `[B, H', W', K]`."""

_ROWS, _COLUMNS = 1, 2


def over_dihedral(apply: Apply, head: Head = SOFTMAX) -> Apply:
    """Averages the class probabilities over the eight symmetries of the square.

    Sections of tissue have no up and no left, so all eight are as likely as the one that
    was photographed; Ronneberger et al. 2015 (arXiv 1505.04597, section 4) average seven
    rotations. Costs eight times the computation. A flipped or turned tile keeps its
    pooling phases, as accepted sides are symmetric, so tiled still equals whole.

    Args:
      apply: the network.
      head: how its logits are read.

    Returns:
      A function like `apply` that returns the logits of the mean, float32.
    """

    def averaged(variables: Any, image: Array) -> Array:
        total: Array = jnp.zeros(())
        for flipped in (False, True):
            for turns in range(4):
                seen = jnp.flip(image, _COLUMNS) if flipped else image
                logits = apply(variables, jnp.rot90(seen, turns, (_ROWS, _COLUMNS)))
                probability = head.probabilities(logits)
                back = jnp.rot90(probability, -turns, (_ROWS, _COLUMNS))
                total += jnp.flip(back, _COLUMNS) if flipped else back
        return head.logits(total / 8)

    return averaged
