"""The fully connected CRF in one call, and all that goes into it by name.

Energy and minimum of toy images are in `segjax.ops.crf.energies`, logits of labels and of
probabilities in `segjax.ops.crf.unary`, the choice of filters in
`segjax.ops.crf.filters`, the iterations for any set of kernels in
`segjax.ops.crf.inference`, the filters in `segjax.ops.crf.gaussian`,
`segjax.ops.crf.spatial` and `segjax.ops.crf.lattice`, whose lattice
`segjax.ops.crf.permutohedral` builds.

Source: Kraehenbuehl and Koltun, 2011, arXiv 1210.5644.
"""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.forms import is_fast_on_cpu
from segjax.ops.crf.energies import energy as energy
from segjax.ops.crf.energies import minimize_energy as minimize_energy
from segjax.ops.crf.features import Width, check_weights, check_width, is_concrete
from segjax.ops.crf.filters import METHODS, Method, crf_filters
from segjax.ops.crf.filters import choose_method as choose_method
from segjax.ops.crf.filters import crf_capacity as crf_capacity
from segjax.ops.crf.gaussian import Filter
from segjax.ops.crf.inference import NORMALIZATIONS, Normalization, make_kernel
from segjax.ops.crf.inference import mean_field as mean_field
from segjax.ops.crf.permutohedral import LatticeSize
from segjax.ops.crf.unary import logits_from_labels as logits_from_labels
from segjax.ops.crf.unary import (
    logits_from_probabilities as logits_from_probabilities,
)
from segjax.types import Array, is_integer

Output: TypeAlias = Literal["marginals", "logits"]
OUTPUTS: tuple[Output, ...] = ("marginals", "logits")

_ROUNDING = 1e-3
"""Distance from an integer below which a value counts as one: black, computed in floats."""


def dense_crf(
    image: Array,
    logits: Array,
    *,
    sigma_alpha: Width,
    sigma_beta: Width,
    sigma_gamma: Width,
    w1: float | Array,
    w2: float | Array,
    num_iterations: int,
    method: Method = "auto",
    normalization: Normalization = "symmetric",
    compatibility: Array | None = None,
    transform: Array | None = None,
    capacity: LatticeSize | None = None,
    radius: int = 5,
    output: Output = "marginals",
) -> Array:
    """Refines the labels of an image by a fully connected CRF, with mean field.

    The kernel between pixels `i` and `j` is

        w1 exp(-|p_i - p_j|^2 / (2 sigma_alpha^2) - |I_i - I_j|^2 / (2 sigma_beta^2))
        + w2 exp(-|p_i - p_j|^2 / (2 sigma_gamma^2)),

    each part normalised by itself, and `j = i` is in the sum, as in pydensecrf.

    Methods, with `N` pixels, `K` labels, `M` vertices:

    * "exact": both kernels as written; `N^2` a step (`ExactFilter`), the smoothness
      as a product of rows and columns.
    * "lattice": both on permutohedral lattices, as pydensecrf has them; `(N + M) K`
      a step. Labels agree with "exact" in 97 % of pixels and better on photographs.
    * "lattice_separable": the appearance on a lattice, the smoothness separable.
    * "window": the appearance of pixels within `radius` only, another model (the
      convolutional CRF of Teichmann and Cipolla, 2018, arXiv 1805.04777); the
      smoothness as in "exact".
    * "auto": see `choose_method`: by the number of pixels and the backend.

    Gradients reach logits, weights and compatibility by every method; widths by
    "exact" and "window", the smoothness width by "lattice_separable" too. Through a
    lattice they would be wrong, and stop.

    Values are looked at outside of `jit` only. There, too, lattices count what they
    need, and an image that needs much more or less than those before is compiled for;
    under `jit` give `capacity`, else they make room for the worst case, in which each
    step takes several times as long.

    Args:
      image: `[H, W, C]` or `[B, H, W, C]`, in 0..255.
      logits: `[H, W, K]` or `[B, H, W, K]`: log-probabilities, or what a network gives
        ahead of its softmax; `logits_from_probabilities` and `logits_from_labels` turn
        other things into them.
      sigma_alpha: width of the appearance kernel in pixels, one number or (x, y).
      sigma_beta: its width in colours, one number or one for each channel.
      sigma_gamma: width of the smoothness kernel in pixels, one number or (x, y).
      w1: weight of the appearance kernel.
      w2: weight of the smoothness kernel.
      num_iterations: mean-field steps.
      method: one of `METHODS`.
      normalization: of each kernel, see `segjax.ops.crf.inference.make_kernel`.
      compatibility: penalties `[K]` or `[K, K]`, which `w1` and `w2` multiply; None:
        Potts.
      transform: stretches or turns the appearance's features (x, y, channels), which
        are over their widths by then: a number, `[2 + C]` or `[2 + C, 2 + C]`, see
        `segjax.ops.crf.features.transform_features`. With it `sigma_alpha` and
        `sigma_beta` may belong together: pydensecrf's kernel types. None: as they are.
      capacity: of the appearance lattice, see `crf_capacity`; None: counted outside of
        `jit`, the worst case under it.
      radius: of "window", in pixels.
      output: "marginals", or "logits", whose softmax they are, for a loss.

    Returns:
      Marginals: the probability of each label, of the shape of `logits`. NaN where a
      `capacity` was too small under `jit`.

    Raises:
      ValueError: for input that does not fit, with its name, what came, and what is
        allowed.
      CapacityError: outside of `jit`, if `capacity` is too small.

    Example:
      DeepLab's values for VOC are `w1=4, sigma_alpha=49, sigma_beta=5, w2=3,
      sigma_gamma=3, num_iterations=10`; here a speck is taken for noise.
      >>> import jax.numpy as jnp
      >>> image = jnp.full((8, 8, 3), 128.0)
      >>> logits = jnp.zeros((8, 8, 2)).at[..., 0].set(1.0).at[4, 4].set(jnp.array([0.0, 1.0]))
      >>> marginals = dense_crf(image, logits, sigma_alpha=20.0, sigma_beta=10.0,
      ...     sigma_gamma=3.0, w1=4.0, w2=3.0, num_iterations=5)
      >>> int(marginals.argmax(-1).sum())
      0
    """
    _check_arrays(image, logits)
    _check_choices(method, normalization, output, num_iterations)
    check_weights(w1=w1, w2=w2)
    channels = image.shape[-1]
    widths = (
        check_width("sigma_alpha", sigma_alpha, 2),
        check_width("sigma_beta", sigma_beta, channels),
        check_width("sigma_gamma", sigma_gamma, 2),
    )
    if compatibility is not None:
        labels = logits.shape[-1]
        if jnp.shape(compatibility) not in ((labels,), (labels, labels)):
            raise ValueError(
                f"compatibility has the shape {list(jnp.shape(compatibility))}; "
                f"allowed are [{labels}] and [{labels}, {labels}]"
            )
        if is_concrete(compatibility) and not np.isfinite(compatibility).all():
            raise ValueError("compatibility has NaN or infinity; allowed are numbers")
    potts = 1.0 if compatibility is None else jnp.asarray(compatibility, jnp.float32)
    weights = (jnp.asarray(w1) * potts, jnp.asarray(w2) * potts)

    def one(pair: tuple[Array, Array]) -> Array:
        picture, scores = pair
        filters = crf_filters(
            picture,
            *widths,
            method=method,
            transform=transform,
            capacity=capacity,
            radius=radius,
        )
        return refine(
            scores,
            filters,
            weights,
            num_iterations=num_iterations,
            normalization=normalization,
            output=output,
        )

    pairs = (jnp.asarray(image, jnp.float32), jnp.asarray(logits, jnp.float32))
    if image.ndim == 3:
        return one(pairs)
    if is_concrete(*pairs, *widths):
        return jnp.stack([one(pair) for pair in zip(*pairs, strict=True)])
    if is_fast_on_cpu():
        return lax.map(one, pairs)
    return jax.vmap(lambda *pair: one(pair))(*pairs)


@functools.partial(
    jax.jit, static_argnames=("num_iterations", "normalization", "output")
)
def refine(
    logits: Array,
    filters: tuple[Filter, Filter],
    weights: tuple[Array, Array],
    *,
    num_iterations: int,
    normalization: Normalization = "symmetric",
    output: Output = "marginals",
) -> Array:
    """Runs mean field over filters that are there already: one image, many weights.

    `dense_crf` builds the filters and calls this. A search builds them once, and maps
    this over weights (`jax.vmap`), so that each pass of a filter serves all of them.

    Args:
      logits: `[H, W, K]`.
      filters: of appearance and smoothness, see `segjax.ops.crf.filters.crf_filters`.
      weights: what multiplies them, or compatibilities, see
        `segjax.ops.crf.inference.make_kernel`.
      num_iterations: mean-field steps.
      normalization: of each kernel.
      output: see `dense_crf`; "logits" cost a copy of them.

    Returns:
      Marginals or logits `[H, W, K]`.
    """
    height, width, labels = logits.shape
    kernels = [
        make_kernel(
            filter,
            num_pixels=height * width,
            compatibility=weight,
            normalization=normalization,
        )
        for filter, weight in zip(filters, weights, strict=True)
    ]
    found = mean_field(
        logits.reshape(-1, labels), kernels, num_iterations=num_iterations
    )
    refined = found.logits if output == "logits" else found.marginals
    return refined.reshape(logits.shape)


def _check_arrays(image: Array, logits: Array) -> None:
    shapes = f"image has the shape {list(image.shape)} and logits {list(logits.shape)}"
    if image.ndim not in (3, 4) or image.ndim != logits.ndim:
        raise ValueError(
            f"{shapes}; allowed are [H, W, C] and [H, W, K], or both with a batch"
        )
    if image.shape[:-1] != logits.shape[:-1]:
        raise ValueError(f"{shapes}; allowed are the same height, width and batch")
    if logits.shape[-1] < 2:
        raise ValueError(
            f"logits has {logits.shape[-1]} label; allowed are 2 or more to choose from"
        )
    if image.shape[-3] * image.shape[-2] < 2 or 0 in image.shape:
        raise ValueError(
            f"image has the shape {list(image.shape)}; allowed are 2 pixels or more, "
            "since the CRF relates pixels to one another"
        )
    for name, array in (("image", image), ("logits", logits)):
        if not is_concrete(array):
            continue
        finite = np.isfinite(np.asarray(array))
        if not finite.all():
            raise ValueError(
                f"{name} has {finite.size - finite.sum()} values that are NaN or "
                "infinite; allowed are finite numbers"
            )
    if is_concrete(image) and jnp.issubdtype(image.dtype, jnp.floating):
        colors = np.asarray(image, np.float32)
        if colors.max() <= 1 and (abs(colors - colors.round()) > _ROUNDING).any():
            raise ValueError(
                f"image has fractions and a maximum of {colors.max():.4g}, as images in "
                "0..1 have; allowed are colours in 0..255: multiply it by 255"
            )


def _check_choices(
    method: str, normalization: str, output: str, num_iterations: int
) -> None:
    for name, value, allowed in (
        ("method", method, METHODS),
        ("normalization", normalization, NORMALIZATIONS),
        ("output", output, OUTPUTS),
    ):
        if value not in allowed:
            raise ValueError(
                f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}"
            )
    if not is_integer(num_iterations):
        raise ValueError(
            f"num_iterations is {num_iterations!r}; allowed is an integer, which is "
            "static under jit"
        )
    if num_iterations < 0:
        raise ValueError(f"num_iterations is {num_iterations}; allowed is 0 or more")
