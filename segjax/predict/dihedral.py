"""Averaging a prediction over flips and quarter turns of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax.predict.heads import SOFTMAX, Head
from segjax.types import Array

Apply = Callable[[Any, Array], Array]
"""Maps variables and images `[B, H, W, C]` to logits `[B, H', W', K]`."""

_ROWS, _COLUMNS = 1, 2
_MIRRORS: Sequence[tuple[int, ...]] = ((), (_ROWS,), (_COLUMNS,), (_ROWS, _COLUMNS))
"""Axes along which an image is flipped; with rows and columns exchanged the other four."""


def over_dihedral(apply: Apply, head: Head = SOFTMAX) -> Apply:
    """Averages the class probabilities over the eight symmetries of the square.

    Sections of tissue have no up and no left, so all eight are as likely as the one that
    was photographed; Ronneberger et al. 2015 (arXiv 1505.04597, section 4) average seven
    rotations. Costs eight times the computation; one follows the other, so memory grows by
    the probabilities of four, and the network is compiled twice, upright and lying. A flipped or
    turned tile keeps its pooling phases, as accepted sides are symmetric, so tiled still equals
    whole.

    Args:
      apply: the network.
      head: how its logits are read.

    Returns:
      A function like `apply` that returns the logits of the mean, float32.
    """

    def averaged(variables: Any, image: Array) -> Array:
        def mean_over_mirrors(image: Array) -> Array:
            seen = jnp.stack([jnp.flip(image, axes) for axes in _MIRRORS])
            found = jax.lax.map(lambda x: head.probabilities(apply(variables, x)), seen)
            pairs = zip(found, _MIRRORS, strict=True)
            return jnp.stack([jnp.flip(x, axes) for x, axes in pairs]).mean(0)

        across = mean_over_mirrors(jnp.swapaxes(image, _ROWS, _COLUMNS))
        total = mean_over_mirrors(image) + jnp.swapaxes(across, _ROWS, _COLUMNS)
        return head.logits(total / 2)

    return averaged
