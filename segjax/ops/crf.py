"""The fully connected CRF in one call, and what goes into it.

Energy and minimum of toy images are in `segjax.ops.crf_energy`, the iterations for any
set of kernels in `segjax.ops.mean_field`, the filters in `segjax.ops.gaussian_filters`,
`segjax.ops.spatial_filters` and `segjax.ops.permutohedral`.

Source: Kraehenbuehl and Koltun, 2011, arXiv 1210.5644.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.crf_energy import energy as energy
from segjax.ops.crf_energy import minimize_energy as minimize_energy
from segjax.ops.crf_features import (
    Width,
    appearance_features,
    check_weights,
    check_width,
    is_concrete,
    smoothness_features,
)
from segjax.ops.gaussian_filters import ExactFilter, Filter
from segjax.ops.mean_field import NORMALIZATIONS, Normalization, make_kernel
from segjax.ops.mean_field import mean_field as mean_field
from segjax.ops.permutohedral import (
    LARGEST_BITMAP,
    LatticeSize,
    lattice_size,
    permutohedral_lattice,
)
from segjax.ops.spatial_filters import SeparableFilter, WindowFilter
from segjax.types import IGNORE_LABEL, Array

Method: TypeAlias = Literal["auto", "exact", "lattice", "lattice_separable", "window"]
METHODS: tuple[Method, ...] = (
    "auto",
    "exact",
    "lattice",
    "lattice_separable",
    "window",
)

Output: TypeAlias = Literal["marginals", "logits"]
OUTPUTS: tuple[Output, ...] = ("marginals", "logits")

EXACT_PIXELS_CPU = 5_000
EXACT_PIXELS_ACCELERATOR = 32_768

TRUNCATE = 4.0
"""Widths at which the separable Gaussian is cut on a CPU; an error of 5e-5."""

_LEAST_PROBABILITY = 1e-5


class _Weights(NamedTuple):
    appearance: Array
    smoothness: Array


def choose_method(num_pixels: int, backend: str) -> Method:
    """The method that "auto" stands for.

    On a CPU "exact" up to 5,000 pixels, above that "lattice". On accelerators "exact"
    up to 32,768 pixels, as they are quick at matrix products and slow at scattering;
    above that "lattice_separable".

    Example:
      >>> choose_method(500 * 375, "cpu")
      'lattice'
    """
    if backend == "cpu":
        return "exact" if num_pixels <= EXACT_PIXELS_CPU else "lattice"
    exact = num_pixels <= EXACT_PIXELS_ACCELERATOR
    return "exact" if exact else "lattice_separable"


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
    * "window": only pixels within `radius` count, another model (the convolutional
      CRF of Teichmann and Cipolla, 2018, arXiv 1805.04777).
    * "auto": see `choose_method`: by the number of pixels and the backend.

    Gradients reach logits, weights and compatibility by every method; widths by
    "exact" and "window", the smoothness width by "lattice_separable" too. Through a
    lattice they would be wrong, and stop.

    Values are looked at outside of `jit` only. There, too, lattices count what they
    need; under `jit` give `capacity`, else they make room for the worst case.

    Args:
      image: `[H, W, C]` or `[B, H, W, C]`, in 0..255.
      logits: `[H, W, K]` or `[B, H, W, K]`: log-probabilities, or what a network gives
        ahead of its softmax.
      sigma_alpha: width of the appearance kernel in pixels, one number or (x, y).
      sigma_beta: its width in colours, one number or one for each channel.
      sigma_gamma: width of the smoothness kernel in pixels, one number or (x, y).
      w1: weight of the appearance kernel.
      w2: weight of the smoothness kernel.
      num_iterations: mean-field steps.
      method: one of `METHODS`.
      normalization: of each kernel, see `segjax.ops.mean_field.make_kernel`.
      compatibility: penalties `[K]` or `[K, K]`, which `w1` and `w2` multiply; None:
        Potts.
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
    size = (image.shape[-3], image.shape[-2])
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
    if method == "auto":
        method = choose_method(size[0] * size[1], jax.default_backend())
    one = 1.0 if compatibility is None else jnp.asarray(compatibility, jnp.float32)
    weights = _Weights(jnp.asarray(w1) * one, jnp.asarray(w2) * one)

    def refine(pair: tuple[Array, Array]) -> Array:
        picture, scores = pair
        filters = _filters(picture, size, widths, method, capacity, radius)
        refined = _infer(scores, filters, weights, num_iterations, normalization)
        return refined if output == "logits" else jax.nn.softmax(refined, axis=-1)

    pairs = (jnp.asarray(image, jnp.float32), jnp.asarray(logits, jnp.float32))
    if image.ndim == 3:
        return refine(pairs)
    if is_concrete(*pairs, *widths):
        return jnp.stack([refine(pair) for pair in zip(*pairs, strict=True)])
    if jax.default_backend() == "cpu":
        return lax.map(refine, pairs)
    return jax.vmap(lambda *pair: refine(pair))(*pairs)


def _filters(
    image: Array,
    size: tuple[int, int],
    widths: tuple[Array, Array, Array],
    method: Method,
    capacity: LatticeSize | None,
    radius: int,
) -> tuple[Filter, Filter]:
    """The filters of appearance and smoothness."""
    alpha, beta, gamma = widths
    features = appearance_features(image, alpha, beta)
    if method == "exact":
        return ExactFilter(features), SeparableFilter(gamma, size)
    if method == "window":
        return WindowFilter(features, size, radius), SeparableFilter(gamma, size)
    room = (None, None) if capacity is None else capacity
    appearance = permutohedral_lattice(
        features, max_vertices=room[0], table_size=_bitmap_size(room[1])
    )
    if method == "lattice_separable":
        return appearance, SeparableFilter(gamma, size, _cut(gamma))
    positions = smoothness_features(size, gamma)
    if is_concrete(gamma) and not is_concrete(positions):
        # Positions are known although the program is traced, so their number is, too.
        with jax.ensure_compile_time_eval():
            needed = lattice_size(smoothness_features(size, gamma))
        return appearance, permutohedral_lattice(
            positions,
            max_vertices=needed.vertices,
            table_size=_bitmap_size(needed.cells),
        )
    return appearance, permutohedral_lattice(positions)


def _bitmap_size(cells: int | None) -> int | None:
    return cells if cells is None or cells <= LARGEST_BITMAP else None


def _cut(width: Array) -> int | None:
    """Radius in pixels at which a known width is cut on a CPU."""
    if not is_concrete(width) or jax.default_backend() != "cpu":
        return None
    return int(np.ceil(TRUNCATE * float(np.max(np.asarray(width)))))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _infer(
    logits: Array,
    filters: tuple[Filter, Filter],
    weights: _Weights,
    num_iterations: int,
    normalization: Normalization,
) -> Array:
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
    return found.logits.reshape(logits.shape)


def crf_capacity(image: Array, *, sigma_alpha: Width, sigma_beta: Width) -> LatticeSize:
    """Counts what the appearance lattice of an image needs; outside of `jit`.

    Args:
      image: `[H, W, C]` in 0..255; `[B, H, W, C]`: enough for each of them.
      sigma_alpha: as in `dense_crf`.
      sigma_beta: as in `dense_crf`.

    Returns:
      The `capacity` of `dense_crf`; larger is allowed.
    """
    images = image[None] if image.ndim == 3 else image
    sizes = [
        lattice_size(appearance_features(one, sigma_alpha, sigma_beta))
        for one in images
    ]
    return LatticeSize(*(max(numbers) for numbers in zip(*sizes, strict=True)))


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
        if is_concrete(array):
            wrong = int(np.size(array) - np.isfinite(np.asarray(array)).sum())
            if wrong:
                raise ValueError(
                    f"{name} has {wrong} values that are NaN or infinite; allowed are "
                    "finite numbers"
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
    if num_iterations < 0:
        raise ValueError(f"num_iterations is {num_iterations}; allowed is 0 or more")


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
    """Turns labels, such as a few strokes of a person, into logits.

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
