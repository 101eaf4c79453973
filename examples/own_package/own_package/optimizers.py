"""An optimizer: a function of a schedule that gives a transformation of Optax."""

from __future__ import annotations

import optax


def sign_descent(
    *, schedule: optax.Schedule, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Steps of one size along the signs of the gradient's mean (signSGD, arXiv 1802.04434).

    Args:
      schedule: the rate by step.
      momentum: fraction of the mean that a step keeps.

    Returns:
      The optimizer.
    """
    return optax.chain(
        optax.ema(momentum),
        optax.scale_by_sign(),
        optax.scale_by_learning_rate(schedule),
    )
