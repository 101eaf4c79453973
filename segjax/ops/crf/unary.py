"""Where the unary energies of a CRF come from, other than a network: as logits.

Energies are minus the logits, so these are log-probabilities.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.crf.features import is_concrete
from segjax.types import IGNORE_LABEL, Array

_LEAST_PROBABILITY = 1e-5


def logits_from_probabilities(probabilities: Array) -> Array:
    """Turns probabilities `[..., K]` into logits, none below 1e-5, as in pydensecrf.

    Raises:
      ValueError: outside of `jit`, if they are not from 0 to 1, or do not sum to one.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = logits_from_probabilities(jnp.array([1.0, 0.0]))
      >>> [round(float(x), 2) for x in logits]
      [0.0, -11.51]
    """
    if is_concrete(probabilities):
        values = np.asarray(probabilities)
        if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
            raise ValueError(
                f"probabilities are from {values.min()} to {values.max()}; allowed is "
                "0 to 1"
            )
        sums = values.sum(-1, dtype=np.float64)
        worst = float(sums.flat[np.argmax(np.abs(sums - 1))])
        if abs(worst - 1) > 1e-3:
            raise ValueError(
                f"probabilities of a pixel sum to {worst:.4g}; allowed is 1"
            )
    return jnp.log(jnp.clip(probabilities, _LEAST_PROBABILITY, 1))


def logits_from_labels(labels: Array, num_labels: int, *, certainty: float) -> Array:
    """Turns labels, such as a few strokes of the user, into logits.

    Args:
      labels: `[..., H, W]`, 0 to `num_labels` - 1; `IGNORE_LABEL` where nothing is
        known, and all labels are as probable.
      num_labels: K.
      certainty: probability that a label is right; the others share the rest.

    Returns:
      Log-probabilities `[..., H, W, K]`.

    Raises:
      ValueError: for a certainty that is not between 0 and 1, less than two labels, or
        outside of `jit` a label that is none of these.

    Example:
      >>> import jax.numpy as jnp
      >>> labels = jnp.array([[0, 1, 255]])
      >>> logits = logits_from_labels(labels, 2, certainty=0.75)
      >>> jnp.exp(logits)[0].round(2).tolist()
      [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]
    """
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}; allowed is 2 or more")
    if not 0 < certainty < 1:
        raise ValueError(f"certainty is {certainty}; allowed is between 0 and 1")
    if is_concrete(labels):
        values = np.asarray(labels)
        wrong = values[
            (values != IGNORE_LABEL) & ((values < 0) | (values >= num_labels))
        ]
        if wrong.size:
            raise ValueError(
                f"labels has {wrong[0]}; allowed are 0 to {num_labels - 1}, and "
                f"{IGNORE_LABEL} for unknown"
            )
    known = (labels != IGNORE_LABEL)[..., None]
    chosen = jax.nn.one_hot(labels, num_labels, dtype=bool)
    rest = jnp.log((1 - certainty) / (num_labels - 1))
    logits = jnp.where(chosen, jnp.log(certainty), rest)
    return jnp.where(known, logits, -jnp.log(float(num_labels)))
