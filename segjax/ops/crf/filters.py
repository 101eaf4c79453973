"""The methods of the CRF: which filters stand for its two kernels, and how large they are."""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.base.forms import platform
from segjax.ops.crf.features import (
    Width,
    appearance_features,
    check_width,
    is_concrete,
    smoothness_features,
    transform_features,
)
from segjax.ops.crf.gaussian import ExactFilter, Filter
from segjax.ops.crf.lattice import LatticeFilter
from segjax.ops.crf.permutohedral import (
    LARGEST_BITMAP,
    CapacityError,
    LatticeSize,
    lattice_size,
    permutohedral_lattice,
)
from segjax.ops.crf.spatial import SeparableFilter, WindowFilter
from segjax.types import Array

Method: TypeAlias = Literal["auto", "exact", "lattice", "lattice_separable", "window"]
METHODS: tuple[Method, ...] = (
    "auto",
    "exact",
    "lattice",
    "lattice_separable",
    "window",
)

EXACT_PIXELS_CPU = 5_000
EXACT_PIXELS_ACCELERATOR = 32_768

KEPT_PIXELS = 1 << 20
"""Size of images up to which the lattice of positions is kept for the next image."""

TRUNCATE = 4.0
"""Widths at which the separable Gaussian is cut on a CPU; an error of 5e-5."""


def choose_method(num_pixels: int, backend: str) -> Method:
    """The method that "auto" stands for.

    On a CPU "exact" up to 5,000 pixels, above that "lattice". On accelerators "exact"
    up to 32,768 pixels, as they are fast at matrix products and slow at scattering;
    above that "lattice_separable".

    Example:
      >>> choose_method(500 * 375, "cpu")
      'lattice'
    """
    if backend == "cpu":
        return "exact" if num_pixels <= EXACT_PIXELS_CPU else "lattice"
    exact = num_pixels <= EXACT_PIXELS_ACCELERATOR
    return "exact" if exact else "lattice_separable"


def crf_filters(
    image: Array,
    sigma_alpha: Width,
    sigma_beta: Width,
    sigma_gamma: Width,
    *,
    method: Method = "auto",
    transform: Array | None = None,
    capacity: LatticeSize | None = None,
    radius: int = 5,
) -> tuple[Filter, Filter]:
    """Builds the two filters of a CRF for one image.

    Args:
      image: `[H, W, C]` in 0..255.
      sigma_alpha: see `segjax.ops.crf.dense.dense_crf`, and so are the others.
      sigma_beta: see there.
      sigma_gamma: see there.
      method: one of `METHODS`.
      transform: see there.
      capacity: see there.
      radius: see there.

    Returns:
      The filters of appearance and smoothness, `[H W, K]` to `[H W, K]`; pytrees.

    Raises:
      ValueError: for widths that are not above zero, or of another number.
      CapacityError: outside of `jit`, if `capacity` is too small.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.zeros((4, 4, 1)).at[:, 2:].set(200.0)
      >>> appearance, _ = crf_filters(image, 2.0, 10.0, 1.0, method="exact")
      >>> one = jnp.zeros((16, 1)).at[5].set(1.0)
      >>> message = appearance(one).reshape(4, 4)
      >>> (message[1] > 0.5).tolist()
      [True, True, False, False]
    """
    size = (image.shape[0], image.shape[1])
    if method == "auto":
        method = choose_method(size[0] * size[1], platform())
    gamma = check_width("sigma_gamma", sigma_gamma, 2)
    features = _appearance(image, sigma_alpha, sigma_beta, transform)
    if method == "exact":
        return ExactFilter(features), SeparableFilter(jnp.asarray(gamma), size)
    if method == "window":
        return WindowFilter(features, size, radius), SeparableFilter(
            jnp.asarray(gamma), size
        )
    room = (None, None) if capacity is None else capacity
    try:
        appearance = permutohedral_lattice(
            features, max_vertices=room[0], table_size=_bitmap_size(room[1])
        )
    except CapacityError as error:
        if capacity is None:
            raise
        raise CapacityError(
            f"capacity is too small: {error}; crf_capacity counts both"
        ) from error
    if method == "lattice_separable":
        return appearance, SeparableFilter(jnp.asarray(gamma), size, _cut(gamma))
    if not is_concrete(gamma):
        return appearance, permutohedral_lattice(smoothness_features(size, gamma))
    widths = tuple(np.asarray(gamma).tolist())
    build = _kept_smoothness if size[0] * size[1] <= KEPT_PIXELS else _smoothness
    return appearance, build(size, widths)


def _smoothness(size: tuple[int, int], widths: tuple[float, ...]) -> LatticeFilter:
    # Positions are known although a program may be traced: what is built is a constant.
    with jax.ensure_compile_time_eval():
        return permutohedral_lattice(smoothness_features(size, widths))


_kept_smoothness = functools.lru_cache(maxsize=4)(_smoothness)


def _appearance(
    image: Array, sigma_alpha: Width, sigma_beta: Width, transform: Array | None
) -> Array:
    features = appearance_features(image, sigma_alpha, sigma_beta)
    return features if transform is None else transform_features(features, transform)


def _bitmap_size(cells: int | None) -> int | None:
    return cells if cells is None or cells <= LARGEST_BITMAP else None


def _cut(width: Array | np.ndarray) -> int | None:
    """Radius in pixels at which a known width is cut on a CPU."""
    if not is_concrete(width) or platform() != "cpu":
        return None
    return int(np.ceil(TRUNCATE * float(np.max(np.asarray(width)))))


def crf_capacity(
    image: Array,
    *,
    sigma_alpha: Width,
    sigma_beta: Width,
    transform: Array | None = None,
) -> LatticeSize:
    """Counts what the appearance lattice of an image needs; outside of `jit`.

    Args:
      image: `[H, W, C]` in 0..255; `[B, H, W, C]`: enough for each of them.
      sigma_alpha: as in `dense_crf`.
      sigma_beta: as in `dense_crf`.
      transform: as in `dense_crf`.

    Returns:
      The `capacity` of `dense_crf`; larger is allowed.
    """
    images = image[None] if image.ndim == 3 else image
    sizes = [
        lattice_size(_appearance(one, sigma_alpha, sigma_beta, transform))
        for one in images
    ]
    return LatticeSize(*(max(numbers) for numbers in zip(*sizes, strict=True)))
