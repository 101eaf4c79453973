"""Mean field on the lecture's 3 x 3 pixels, beside all 512 labellings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.ops.crf.features import appearance_features, smoothness_features
from segjax.ops.crf.gaussian import ExactFilter
from segjax.viz import Grid, plot_grids

from . import rounded

TITLE = "Mean field, step by step, on the 3 x 3 CRF"
CAPTION = (
    "The lecture's white image with one black pixel. Pull at the weight of the pairs, and step: each pixel "
    "asks all others and corrects its own probability. Beside it the exact marginals, from all 512 "
    "labellings. With natural logarithms, Chebyshev's distance and all widths 1; by `segjax.ops.mean_field` and "
    "`energy`."
)
ALTERNATIVE = "P(object) of nine pixels before mean field, after 1, 2 and 5 steps, and the exact marginals."

FOREGROUND = np.array([[0.8, 0.8, 0.8], [0.9, 0.1, 0.8], [0.9, 0.9, 0.9]])
WEIGHTS = tuple(round(0.1 * i, 1) for i in range(21))
STEPS = 10


def image() -> np.ndarray:
    """White, with a black pixel in the middle, `[3, 3, 1]`."""
    white = np.full((3, 3, 1), 255.0, np.float32)
    white[1, 1] = 0
    return white


def _logits() -> np.ndarray:
    return np.log(np.stack([1 - FOREGROUND, FOREGROUND], -1)).astype(np.float32)


def courses(weights: tuple[float, ...], steps: int) -> np.ndarray:
    """P(object) of each pixel after each number of steps, for each weight of both kernels.

    Args:
      weights: of the pairs.
      steps: the largest number of them.

    Returns:
      `[W, steps + 1, 3, 3]`.
    """
    features = (
        appearance_features(jnp.asarray(image()), 1.0, 1.0),
        smoothness_features((3, 3), 1.0),
    )
    logits = jnp.asarray(_logits().reshape(9, 2))

    def after(count: int) -> np.ndarray:
        def run(weight: jax.Array) -> jax.Array:
            kernels = [
                ops.make_kernel(
                    ExactFilter(f, distance="chebyshev", self_included=False),
                    num_pixels=9,
                    compatibility=weight,
                    normalization="none",
                )
                for f in features
            ]
            found = ops.mean_field(logits, kernels, num_iterations=count)
            return found.marginals[:, 1].reshape(3, 3)

        return np.stack([np.asarray(run(jnp.float32(w))) for w in weights])

    return np.stack([after(count) for count in range(steps + 1)], 1)


def exact(weights: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Counts all labellings.

    Args:
      weights: of the pairs.

    Returns:
      P(object) `[W, 3, 3]`, and the likeliest labelling `[W, 3, 3]`.
    """
    labellings = ops.all_labellings((3, 3), 2)
    unary = jnp.asarray(-_logits())
    options: dict[str, Any] = {
        "sigma_alpha": 1.0,
        "sigma_beta": 1.0,
        "sigma_gamma": 1.0,
    }

    def energies(unary: jax.Array, weight: float) -> np.ndarray:
        def one(labels: jax.Array) -> jax.Array:
            return ops.energy(
                labels,
                unary,
                jnp.asarray(image()),
                w1=weight,
                w2=weight,
                distance="chebyshev",
                **options,
            )

        return np.asarray(jax.vmap(one)(jnp.asarray(labellings)), np.float64)

    alone, pairs = energies(unary, 0.0), energies(0 * unary, 1.0)
    total = alone + np.asarray(weights)[:, None] * pairs
    p = np.exp(-(total - total.min(1, keepdims=True)))
    p /= p.sum(1, keepdims=True)
    return np.tensordot(p, labellings, 1), labellings[total.argmin(1)]


def data() -> dict[str, Any]:
    """Courses and exact marginals."""
    marginals, best = exact(WEIGHTS)
    return {
        "image": image()[..., 0].tolist(),
        "weights": WEIGHTS,
        "courses": rounded(courses(WEIGHTS, STEPS), 4),
        "exact": rounded(marginals, 4),
        "best": best.tolist(),
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Some steps at weight 1."""
    course = np.asarray(data["courses"][10])
    grids = [Grid(course[n], f"step {n}") for n in (0, 1, 2, 5)]
    return plot_grids([[*grids, Grid(np.asarray(data["exact"][10]), "exact")]], dpi=80)
