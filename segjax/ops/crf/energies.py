"""The energy of one labelling under the fully connected CRF, and its minimum by trial.

    E(x) = sum_i theta_i(x_i) + sum_{i<j} mu(x_i, x_j) k(i, j),
    k(i, j) = w1 exp(-|p_i - p_j|^2 / (2 sigma_alpha^2) - |I_i - I_j|^2 / (2 sigma_beta^2))
            + w2 exp(-|p_i - p_j|^2 / (2 sigma_gamma^2)),

with `p` the position in pixels, `I` the colour in 0..255, and each pair of pixels once.
Nothing is normalised here, as in the lecture and in the paper: Kraehenbuehl and Koltun,
2011, arXiv 1210.5644, equations 1 to 3.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.crf.features import (
    Width,
    appearance_features,
    check_number,
    check_weights,
    is_concrete,
    smoothness_features,
)
from segjax.ops.crf.gaussian import Distance, ExactFilter
from segjax.types import Array

MOST_LABELLINGS = 1 << 20


def energy(
    labels: Array,
    unary: Array,
    image: Array,
    *,
    sigma_alpha: Width,
    sigma_beta: Width,
    sigma_gamma: Width,
    w1: float | Array,
    w2: float | Array,
    compatibility: Array | None = None,
    distance: Distance = "euclidean",
) -> Array:
    """Computes the energy of a labelling, each pair of pixels once; cost `(H W)^2`.

    Args:
      labels: label of each pixel `[H, W]`, integers.
      unary: energy of each label `[H, W, K]`: minus its log-probability, in the base
        of one's choice.
      image: `[H, W, C]` in 0..255.
      sigma_alpha: width of the appearance kernel in pixels, one number or (x, y).
      sigma_beta: its width in colours, one number or one for each channel.
      sigma_gamma: width of the smoothness kernel in pixels, one number or (x, y).
      w1: weight of the appearance kernel.
      w2: weight of the smoothness kernel.
      compatibility: penalties `mu` `[K, K]`; None: Potts, 1 where labels differ.
      distance: see `segjax.ops.crf.gaussian.pair_kernel`.

    Returns:
      The energy, a scalar.

    Raises:
      ValueError: if sizes do not fit, or a width is not above zero.

    Example:
      The lecture's hole: eight pixels around the centre differ from it.
      >>> import jax.numpy as jnp
      >>> image = jnp.full((3, 3, 1), 255.0).at[1, 1].set(0.0)
      >>> labels = jnp.ones((3, 3), int).at[1, 1].set(0)
      >>> pairs = energy(labels, jnp.zeros((3, 3, 2)), image, sigma_alpha=1.0,
      ...     sigma_beta=1.0, sigma_gamma=1.0, w1=1.0, w2=1.0, distance="chebyshev")
      >>> round(float(pairs), 2)
      4.85
    """
    size, num_labels = _check(unary, image)
    check_weights(w1=w1, w2=w2)
    if labels.shape != size:
        raise ValueError(
            f"labels has the shape {list(labels.shape)}; allowed is that of the image, "
            f"{list(size)}"
        )
    if compatibility is None:
        compatibility = 1 - jnp.eye(num_labels)
    if jnp.shape(compatibility) != (num_labels, num_labels):
        raise ValueError(
            f"compatibility has the shape {list(jnp.shape(compatibility))}; allowed is "
            f"[{num_labels}, {num_labels}]"
        )
    if is_concrete(labels):
        last = int(np.max(labels)) if np.min(labels) >= 0 else -1
        if not 0 <= last < num_labels:
            raise ValueError(
                f"labels go from {np.min(labels)} to {np.max(labels)}; allowed are 0 to "
                f"{num_labels - 1}"
            )
    kernels = (
        (w1, appearance_features(image, sigma_alpha, sigma_beta)),
        (w2, smoothness_features(size, sigma_gamma)),
    )
    return _energy(labels, unary, kernels, jnp.asarray(compatibility), distance)


@functools.partial(jax.jit, static_argnames="distance")
def _energy(
    labels: Array,
    unary: Array,
    kernels: tuple[tuple[Array | float, Array], ...],
    compatibility: Array,
    distance: Distance,
) -> Array:
    num_labels = unary.shape[-1]
    chosen = jax.nn.one_hot(labels.reshape(-1), num_labels, dtype=jnp.float32)
    penalty = jnp.matmul(chosen, compatibility, precision="highest")
    total = jnp.sum(chosen * unary.reshape(-1, num_labels))
    for weight, features in kernels:
        kernel = ExactFilter(
            features, distance=distance, form="differences", self_included=False
        )
        total += 0.5 * weight * jnp.sum(penalty * kernel(chosen))
    return total


def _check(unary: Array, image: Array) -> tuple[tuple[int, int], int]:
    if image.ndim != 3 or unary.ndim != 3 or unary.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"unary has the shape {list(unary.shape)} and image {list(image.shape)}; "
            "allowed are [H, W, K] and [H, W, C] of one size"
        )
    return (image.shape[0], image.shape[1]), unary.shape[2]


def all_labellings(size: tuple[int, int], num_labels: int) -> np.ndarray:
    """Lists every labelling of a toy image `[K^(H W), H, W]`, as one counts.

    Raises:
      ValueError: if there are more than `MOST_LABELLINGS`.

    Example:
      >>> all_labellings((1, 2), 2)[:, 0].tolist()
      [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    pixels = check_number("pixels", size[0] * size[1])
    if num_labels**pixels > MOST_LABELLINGS:
        raise ValueError(
            f"there are {num_labels}^{pixels} labellings of {pixels} pixels; allowed "
            f"are at most {MOST_LABELLINGS}"
        )
    counts = np.arange(num_labels**pixels)[:, None]
    digits = counts // num_labels ** np.arange(pixels)[::-1] % num_labels
    return digits.reshape(-1, *size).astype(np.int32)


def minimize_energy(
    unary: Array,
    image: Array,
    *,
    sigma_alpha: Width,
    sigma_beta: Width,
    sigma_gamma: Width,
    w1: float | Array,
    w2: float | Array,
    compatibility: Array | None = None,
    distance: Distance = "euclidean",
) -> tuple[Array, Array]:
    """Finds the labelling of least energy by trying all `K^(H W)`; toy sizes only.

    Args:
      unary: energy of each label `[H, W, K]`.
      image: as in `energy`, and so are the other arguments.
      sigma_alpha: see `energy`.
      sigma_beta: see `energy`.
      sigma_gamma: see `energy`.
      w1: see `energy`.
      w2: see `energy`.
      compatibility: see `energy`.
      distance: see `energy`.

    Returns:
      The labelling `[H, W]`, the first one of several, and its energy.

    Raises:
      ValueError: if there are more than `MOST_LABELLINGS`.

    Example:
      >>> import jax.numpy as jnp
      >>> p = jnp.full((3, 3), 0.8).at[1, 1].set(0.1)
      >>> unary = -jnp.log(jnp.stack([1 - p, p], -1))
      >>> ones = {"sigma_alpha": 1.0, "sigma_beta": 1.0, "sigma_gamma": 1.0, "w1": 1.0, "w2": 1.0}
      >>> labels, _ = minimize_energy(unary, jnp.full((3, 3, 1), 255.0), **ones)
      >>> labels.tolist()
      [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
    """
    size, num_labels = _check(unary, image)
    labellings = jnp.asarray(all_labellings(size, num_labels))

    def one(labels: Array) -> Array:
        return energy(
            labels,
            unary,
            image,
            sigma_alpha=sigma_alpha,
            sigma_beta=sigma_beta,
            sigma_gamma=sigma_gamma,
            w1=w1,
            w2=w2,
            compatibility=compatibility,
            distance=distance,
        )

    energies = jax.lax.map(one, labellings, batch_size=1024)
    best = jnp.argmin(energies)
    return labellings[best], energies[best]
