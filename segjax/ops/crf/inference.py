"""Mean field of a fully connected CRF: kernels, their normalisation, the iterations.

The distribution over labels `x` of the pixels is approximated by a product of marginals
`Q_i(l)`, which are iterated to a fixed number of steps, all pixels in parallel:

    Q_i(l) ~ exp(-theta_i(l) - sum_m sum_l' mu_m(l, l') sum_j k_m(i, j) Q_j(l')).

Source: Kraehenbuehl and Koltun, 2011, arXiv 1210.5644, algorithm 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.cpu.materialization import materialize
from segjax.ops.crf.gaussian import Filter
from segjax.types import Array

Normalization: TypeAlias = Literal["none", "before", "after", "symmetric"]
NORMALIZATIONS: tuple[Normalization, ...] = ("none", "before", "after", "symmetric")

_SMALLEST_SUM = 1e-20


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("filter", "compatibility"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Kernel:
    """One kernel of the CRF; `make_kernel` builds it.

    Attributes:
      filter: what sums over pixels, normalised.
      compatibility: see `make_kernel`.
    """

    filter: Filter
    compatibility: Array

    def penalty(self, marginals: Array) -> Array:
        """The energy that this kernel adds to each label `[N, K]`."""
        return compatible(self.filter(marginals), self.compatibility)


def compatible(message: Array, compatibility: Array) -> Array:
    """Turns a message `[N, K]` into energies `[N, K]`; see `make_kernel`."""
    if compatibility.ndim == 0:
        return -compatibility * message
    if compatibility.ndim == 1:
        return compatibility[None] * message
    return jnp.matmul(message, compatibility, precision=lax.Precision.HIGHEST)


def make_kernel(
    filter: Filter,
    *,
    num_pixels: int,
    compatibility: Array | float,
    normalization: Normalization = "symmetric",
) -> Kernel:
    """Joins a filter with a compatibility of labels, and normalises it.

    With `D = diag(K 1)`: "none" is `K`, "before" `K D^-1`, "after" `D^-1 K`, which
    keeps constants, and "symmetric" `D^-1/2 K D^-1/2`. The published weights belong to
    "symmetric" (pydensecrf, and with it most of the field) or "after" (DeepLab's own
    code); the equation of the paper is "none".

    Args:
      filter: a `Filter`, which sums over pixels, `[N, C]` to `[N, C]`.
      num_pixels: N.
      compatibility: a number `w` *rewards* equal labels with `w` (Potts); a vector
        `[K]` *penalises* each label by the message of that label; a matrix `[K, K]`
        penalises label `l` by `mu[l, l']` times the message of `l'`, and its symmetric
        part is what counts. The signs are those of pydensecrf.
      normalization: one of `NORMALIZATIONS`.

    Returns:
      The kernel; its normalisation costs one pass of the filter over one channel.

    Raises:
      ValueError: for an unknown normalisation, or a compatibility of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from segjax.ops.crf.gaussian import ExactFilter
      >>> near = ExactFilter(jnp.array([[0.0], [0.5], [3.0]]))
      >>> kernel = make_kernel(near, num_pixels=3, compatibility=2.0, normalization="none")
      >>> marginals = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
      >>> penalty = kernel.penalty(marginals)
      >>> penalty.argmin(1).tolist()
      [0, 1, 0]
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization is {normalization!r}; allowed are "
            f"{', '.join(map(repr, NORMALIZATIONS))}"
        )
    compatibility = jnp.asarray(compatibility, jnp.float32)
    square = compatibility.ndim < 2 or compatibility.shape[0] == compatibility.shape[-1]
    if compatibility.ndim > 2 or not square:
        raise ValueError(
            f"compatibility has the shape {list(compatibility.shape)}; allowed are a "
            "number, a vector [K] and a matrix [K, K]"
        )
    if compatibility.ndim == 2:
        compatibility = 0.5 * (compatibility + compatibility.T)
    if normalization == "none":
        return Kernel(filter, compatibility)
    # A pixel that no other reaches has a sum of zero when itself is left out.
    sums = filter(jnp.ones((num_pixels, 1), jnp.float32)) + _SMALLEST_SUM
    factor = lax.rsqrt(sums) if normalization == "symmetric" else 1 / sums
    before = None if normalization == "after" else factor
    after = None if normalization == "before" else factor
    return Kernel(filter.scaled(before, after), compatibility)


class FreeEnergy(NamedTuple):
    """The parts of the free energy `E_Q[E(x)] - H(Q)`, which mean field brings down.

    It is the Kullback-Leibler divergence of `Q` from the CRF but for a constant. What
    pydensecrf calls `klDivergence` is `entropy + unary + 2 * pairwise`.

    Attributes:
      entropy: `sum_i sum_l Q_i(l) ln Q_i(l)`, at most 0.
      unary: `sum_i sum_l Q_i(l) theta_i(l)`.
      pairwise: each pair of pixels once; Potts as the reward `-w Q_i . Q_j`.
    """

    entropy: Array
    unary: Array
    pairwise: Array

    @property
    def total(self) -> Array:
        """Sum of the three parts."""
        return self.entropy + self.unary + self.pairwise


def _penalties(kernels: Sequence[Kernel], marginals: Array) -> Array:
    total = jnp.zeros_like(marginals)
    for kernel in kernels:
        total = total + kernel.penalty(marginals)
    return total


def free_energy(
    marginals: Array, logits: Array, kernels: Sequence[Kernel]
) -> FreeEnergy:
    """Computes the free energy of marginals `[N, K]`; costs one pass of each kernel.

    Args:
      marginals: `Q` `[N, K]`.
      logits: minus the unary energies `[N, K]`.
      kernels: as in `mean_field`.

    Returns:
      The three parts, scalars; the scale of `logits` (a constant per pixel) enters.

    Example:
      >>> import jax.numpy as jnp
      >>> sure, unsure = jnp.array([[1.0, 0.0]]), jnp.array([[0.5, 0.5]])
      >>> logits = jnp.array([[2.0, 0.0]])
      >>> [round(float(free_energy(q, logits, ()).total), 3) for q in (sure, unsure)]
      [-2.0, -1.693]
    """
    return FreeEnergy(
        jnp.sum(marginals * jnp.log(jnp.maximum(marginals, _SMALLEST_SUM))),
        -jnp.sum(marginals * logits),
        0.5 * jnp.sum(marginals * _penalties(kernels, marginals)),
    )


class MeanField(NamedTuple):
    """The result of `mean_field`.

    Attributes:
      logits: `[N, K]`; their softmax are the marginals. A constant for each pixel is
        free, as in any logits.
      marginals: probabilities of the labels `[N, K]`.
      trace: the free energy after 0, 1 .. `num_iterations` steps, each part
        `[num_iterations + 1]`; None unless asked for.
    """

    logits: Array
    marginals: Array
    trace: FreeEnergy | None


@functools.partial(jax.jit, static_argnums=(2, 3))
def _mean_field(
    logits: Array, kernels: tuple[Kernel, ...], num_iterations: int, trace: bool
) -> MeanField:
    logits = logits.astype(jnp.float32)

    # Refined logits are carried to be returned. Where nobody reads them, under an outer
    # `jit`, they are dropped, and the copy of `logits` that a loop begins with.
    def step(
        state: tuple[Array, Array], _: None
    ) -> tuple[tuple[Array, Array], FreeEnergy | None]:
        marginals = state[1]
        energy = free_energy(marginals, logits, kernels) if trace else None
        refined = logits - _penalties(kernels, marginals)
        # In a branch, or the softmax would take apart what slices the lattices.
        return (refined, materialize(jax.nn.softmax, refined)), energy

    start = (logits, jax.nn.softmax(logits, axis=-1))
    (refined, marginals), energies = lax.scan(step, start, None, length=num_iterations)
    if energies is None:
        return MeanField(refined, marginals, None)
    last = free_energy(marginals, logits, kernels)
    parts = (jnp.append(a, b) for a, b in zip(energies, last, strict=True))
    return MeanField(refined, marginals, FreeEnergy(*parts))


def mean_field(
    logits: Array,
    kernels: Sequence[Kernel],
    *,
    num_iterations: int,
    trace: bool = False,
) -> MeanField:
    """Runs a fixed number of mean-field steps, all pixels in parallel.

    Start is `Q = softmax(logits)`. Without kernels, or without steps, it stays there.
    Gradients reach the logits, the compatibilities, and what the filters let through.
    For a batch, map this over images: kernels and filters are pytrees.

    Args:
      logits: minus the unary energies `[N, K]`, `N` pixels in the order of the filters;
        log-probabilities, or what a network gives ahead of its softmax.
      kernels: of `make_kernel`.
      num_iterations: steps; DeepLab takes 10, the example of pydensecrf 5.
      trace: whether to follow the free energy; twice the cost.

    Returns:
      Logits, and from them the marginals, both `[N, K]`.

    Raises:
      ValueError: for a negative number of steps, or logits of another rank.

    Example:
      >>> import jax.numpy as jnp
      >>> from segjax.ops.crf.gaussian import ExactFilter
      >>> near = ExactFilter(jnp.array([[0.0], [0.5], [1.0]]))
      >>> kernel = make_kernel(near, num_pixels=3, compatibility=3.0)
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 0.2], [2.0, 0.0]])
      >>> mean_field(logits, [kernel], num_iterations=5).marginals.argmax(1).tolist()
      [0, 0, 0]
    """
    if logits.ndim != 2:
        raise ValueError(
            f"logits has the shape {list(logits.shape)}; allowed is [N, K], pixels by "
            "labels"
        )
    if num_iterations < 0:
        raise ValueError(f"num_iterations is {num_iterations}; allowed is 0 or more")
    return _mean_field(logits, tuple(kernels), num_iterations, trace)
