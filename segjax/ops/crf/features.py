"""Features that the kernels of a CRF compare: positions and colours, divided by their widths.

The order of the features is (x, y, channels), as in pydensecrf. It means nothing to an
exact filter, but fixes how a lattice lies in feature space.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from segjax.types import Array

Width: TypeAlias = float | tuple[float, ...] | Array | np.ndarray
"""One width for all features, or one for each."""

LEAST_WIDTH = 1e-6
"""Below, squares of float32 vanish."""


def is_concrete(*values: object) -> bool:
    """Whether no value is traced, so that numbers can be looked at."""
    return not any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)
    )


def check_number(name: str, value: int) -> int:
    """Checks for an integer of at least 1, and returns it."""
    if value < 1:
        raise ValueError(f"{name} is {value}; allowed is 1 or more")
    return value


def check_width(name: str, width: Width, number: int) -> Array | np.ndarray:
    """Checks a width, or as many as there are features, and returns `[number]`.

    Args:
      name: of the argument, for the message.
      width: one number or several, above zero; traced values are not looked at.
      number: of features.

    Returns:
      `[number]` float32; of NumPy where the width is known, so that it stays known while
      a program is traced.

    Raises:
      ValueError: if the width is not finite and above zero, or of another shape.
    """
    known = is_concrete(width)
    array = (np if known else jnp).asarray(width, np.float32)
    if array.shape not in ((), (number,)):
        raise ValueError(
            f"{name} has the shape {list(array.shape)}; allowed are one number and "
            f"{number} of them"
        )
    if known and not (np.isfinite(array).all() and (array > LEAST_WIDTH).all()):
        raise ValueError(
            f"{name} is {array.tolist()}; allowed is above {LEAST_WIDTH:g}"
        )
    return (np if known else jnp).broadcast_to(array, (number,))


def check_weights(**weights: float | Array) -> None:
    """Checks that each weight is a finite number; traced values are not looked at.

    Raises:
      ValueError: naming the weight and what it was.
    """
    for name, weight in weights.items():
        if jnp.ndim(weight) != 0:
            raise ValueError(
                f"{name} has the shape {list(jnp.shape(weight))}; allowed is a number"
            )
        if is_concrete(weight) and not np.isfinite(weight):
            raise ValueError(f"{name} is {weight}; allowed are finite numbers")


def _positions(size: tuple[int, int]) -> Array:
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return jnp.asarray(np.stack([x, y], -1).reshape(-1, 2))


def smoothness_features(size: tuple[int, int], position_width: Width) -> Array:
    """Positions over their widths.

    Args:
      size: height and width in pixels.
      position_width: in pixels, one number or (x, y).

    Returns:
      `[H W, 2]`, x before y.

    Example:
      >>> smoothness_features((1, 3), 2.0)[:, 0].tolist()
      [0.0, 0.5, 1.0]
    """
    width = check_width("the position's width", position_width, 2)
    return _positions(size) / width[None]


def appearance_features(
    image: Array, position_width: Width, color_width: Width
) -> Array:
    """Positions and colours over their widths.

    Args:
      image: `[H, W, C]` in 0..255.
      position_width: in pixels, one number or (x, y).
      color_width: in steps of 0..255, one number or one for each channel.

    Returns:
      `[H W, 2 + C]`: x, y, channels.
    """
    height, width, channels = image.shape
    position = smoothness_features((height, width), position_width)
    scale = check_width("the colour's width", color_width, channels)
    color = image.reshape(-1, channels).astype(jnp.float32) / scale[None]
    return jnp.concatenate([position, color], axis=1)


def transform_features(features: Array, scale: Array) -> Array:
    """Stretches features by what pydensecrf calls the kernel's covariance.

    Args:
      features: `[N, d]`, already over their widths.
      scale: a number, one for each feature `[d]` (`DIAG_KERNEL`), or a matrix `[d, d]`
        that is multiplied from the left (`FULL_KERNEL`): the Gaussian's covariance is
        then `(scale^T scale)^-1`.

    Returns:
      `[N, d]`.

    Raises:
      ValueError: for a scale of another shape.
    """
    number = features.shape[1]
    scale = jnp.asarray(scale, features.dtype)
    if scale.shape not in ((), (number,), (number, number)):
        raise ValueError(
            f"scale has the shape {list(scale.shape)}; allowed are a number, "
            f"[{number}] and [{number}, {number}]"
        )
    if scale.ndim == 2:
        return jnp.matmul(features, scale.T, precision="highest")
    return features * jnp.broadcast_to(scale, (number,))[None]
