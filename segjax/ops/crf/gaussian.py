"""Gaussian filters over pixels: each output is a sum over all pixels, near in feature space.

A filter maps values `[N, C]` of `N` pixels to

    y_i = sum_j exp(-|f_i - f_j|^2 / 2) x_j,

where `f` `[N, d]` are features divided by their widths: position alone for smoothness,
position and colour for appearance. No division by a sum of weights is made here; that
is a matter of `segjax.ops.crf.inference`. Four filters have this one interface:

| filter | cost of one pass | memory | what it approximates |
| --- | --- | --- | --- |
| `ExactFilter` | `N^2 (d + C)` | `N (d + C)` and one tile | nothing |
| `LatticeFilter` (`ops/crf/lattice.py`) | `(d + 1) (N + M) C` | `(d + 1) N + M C` | appearance to 6-12 % |
| `SeparableFilter` (`ops/crf/spatial.py`) | `N (H + W) C`, or `N r C` | `N C` | position only; cut at `r` pixels on demand |
| `WindowFilter` (`ops/crf/spatial.py`) | `N (2 r + 1)^2 (d + C)` | `N C` | all beyond `r` pixels is left out |

Source: Kraehenbuehl and Koltun, 2011, arXiv 1210.5644, equations 2 and 3.
"""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.base.forms import platform
from segjax.types import Array

Distance: TypeAlias = Literal["euclidean", "chebyshev"]
Form: TypeAlias = Literal["auto", "differences", "attention"]

POSITIONS = 2
"""Features that are a position; the Chebyshev distance takes them and the rest apart."""

_CPU_TILE = (256, 2048)
_ACCELERATOR_TILE = (2048, 16384)


class Filter(Protocol):
    """Anything that maps values `[N, C]` of pixels to sums over pixels `[N, C]`."""

    def __call__(self, values: Array) -> Array:
        """Filters values `[N, C]`."""
        ...

    def scaled(self, before: Array | None, after: Array | None) -> Filter:
        """The same filter between two factors of each pixel.

        Args:
          before: ahead of the sums, `[N, 1]`; None: 1.
          after: behind them, `[N, 1]`; None: 1. No gradient reaches the factors through
            a lattice.

        Returns:
          The filter with them, `[N, C]` to `[N, C]`.
        """
        ...


class SummingFilter(abc.ABC):
    """A `Filter` that multiplies by its factors around `sums`, which a kind of it has.

    Attributes:
      self_included: whether a sum has the pixel itself.
    """

    self_included: bool

    def __call__(self, values: Array) -> Array:
        """Filters values `[N, C]`; where positions matter, pixels are row by row."""
        return self.sums(values) if self.self_included else self.sums(values) - values

    def scaled(self, before: Array | None, after: Array | None) -> Filter:
        """See `Filter`."""
        return ScaledFilter(self, before, after)

    @abc.abstractmethod
    def sums(self, values: Array) -> Array:
        """Sums over all pixels, each itself included, `[N, C]` to `[N, C]`."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("filter", "before", "after"),
    meta_fields=(),
)
@dataclass(frozen=True)
class ScaledFilter:
    """A filter between two factors of each pixel, `[N, 1]` or None.

    Attributes:
      filter: what sums over pixels.
      before: what multiplies values ahead of it.
      after: what multiplies the sums.
    """

    filter: Filter
    before: Array | None
    after: Array | None

    def __call__(self, values: Array) -> Array:
        """Filters values `[N, C]`."""
        sums = self.filter(_times(values, self.before))
        return _times(sums, self.after)

    def scaled(self, before: Array | None, after: Array | None) -> Filter:
        """See `Filter`."""
        return ScaledFilter(self, before, after)


def _times(values: Array, factor: Array | None) -> Array:
    return values if factor is None else factor * values


def pair_kernel(queries: Array, keys: Array, distance: Distance) -> Array:
    """Gaussian of the distance of each query to each key, without cancellation.

    Args:
      queries: features `[n, d]`, divided by their widths.
      keys: features `[m, d]`.
      distance: "euclidean", or "chebyshev": the largest difference among the first
        two features (position), and the largest among the rest (colour), which is how
        the lecture counts a diagonal neighbour as near as a straight one.

    Returns:
      `exp(-distance^2 / 2)` `[n, m]`.
    """
    squares = [
        jnp.square(queries[:, i, None] - keys[None, :, i])
        for i in range(queries.shape[1])
    ]
    if distance == "chebyshev":
        groups = (squares[:POSITIONS], squares[POSITIONS:])
        squares = [functools.reduce(jnp.maximum, group) for group in groups if group]
    return jnp.exp(-0.5 * functools.reduce(jnp.add, squares))


def _three_parts(x: Array) -> list[Array]:
    """Three bfloat16 numbers whose sum is a float32 one, the largest first."""
    parts = []
    for _ in range(3):
        # The bits are cut off, because a rounding there and back may be optimised away.
        bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        part = lax.bitcast_convert_type(bits, jnp.float32)
        parts.append(part.astype(jnp.bfloat16))
        x = x - part
    return parts


def attention_heads(features: Array) -> tuple[Array, Array]:
    """Queries and keys in bfloat16 whose products are `f_i . f_j - |f_j|^2 / 2`.

    With them the Gaussian filter is attention over pixels, but for the factor
    `exp(-|f_i|^2 / 2)`. Features are centred and each is split in three parts of 8
    bits; of the nine products of parts the six largest are kept. bfloat16 features
    without the split leave an error of a half at the published widths; with it the
    error was 3e-6 at widths 80 and 13, and 1e-4 at 67 and 3.

    Args:
      features: `[N, d]`, float32.

    Returns:
      Queries and keys `[N, 6 d + 3]`, bfloat16.
    """
    a, b, c = _three_parts(features)
    bias = _three_parts(-0.5 * jnp.square(features).sum(1, keepdims=True))
    ones = jnp.ones_like(bias[0])
    queries = jnp.concatenate([a, a, b, a, b, c, ones, ones, ones], axis=1)
    keys = jnp.concatenate([a, b, a, c, b, a, *bias], axis=1)
    return queries, keys


def _split(x: Array, block: int) -> Array:
    """`[N, ...]` as blocks `[n, block, ...]`, the last one filled up with zeros."""
    number = -(-x.shape[0] // block)
    rest = number * block - x.shape[0]
    x = jnp.pad(x, ((0, rest), *((0, 0) for _ in x.shape[1:])))
    return x.reshape(number, block, *x.shape[1:])


@dataclass(frozen=True)
class _Plan:
    """How pairs of pixels are streamed."""

    tile: tuple[int, int]
    distance: Distance
    form: Form

    def sums(self, values: Array, features: Array) -> Array:
        """The filter itself."""
        left = right = features
        scale = jnp.zeros(features.shape[:1], features.dtype)
        if self.form == "attention":
            features = features - features.mean(0, keepdims=True)
            scale = -0.5 * jnp.square(features).sum(1)
            left, right = attention_heads(features)

        def tile(query: tuple[Array, Array], keys: Array) -> Array:
            heads, own = query
            if self.form == "differences":
                return pair_kernel(heads, keys, self.distance)
            scores = lax.dot_general(
                heads, keys, (((1,), (1,)), ((), ())), preferred_element_type=own.dtype
            )
            # The whole exponent at once: either half alone could overflow.
            return jnp.exp(jnp.minimum(scores + own[:, None], 0))

        def row(query: tuple[Array, Array]) -> Array:
            def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
                keys, part = block
                product = jnp.matmul(
                    tile(query, keys), part, precision=lax.Precision.HIGHEST
                )
                return total + product, None

            start = jnp.zeros((self.tile[0], values.shape[1]), values.dtype)
            return lax.scan(add, start, blocks)[0]

        blocks = (_split(right, self.tile[1]), _split(values, self.tile[1]))
        queries = (_split(left, self.tile[0]), _split(scale, self.tile[0]))
        rows = lax.map(row, queries)
        return rows.reshape(-1, values.shape[1])[: values.shape[0]]

    def feature_gradient(self, values: Array, features: Array, g: Array) -> Array:
        """Gradient of `sum(g * sums(values, features))` with respect to features.

        A pair `i, j` enters as (i, j) and as (j, i), so that each pixel has to look
        at its own row only: `sum_j (g_i . x_j + g_j . x_i) dk(f_i, f_j) / df_i`.
        """

        def row(query: tuple[Array, Array, Array]) -> Array:
            own, own_values, own_g = query

            def add(
                total: Array, block: tuple[Array, Array, Array]
            ) -> tuple[Array, None]:
                keys, part, part_g = block
                pairs = jnp.matmul(own_g, part.T, precision=lax.Precision.HIGHEST)
                pairs += jnp.matmul(own_values, part_g.T, precision="highest")
                _, pull = jax.vjp(lambda f: pair_kernel(f, keys, self.distance), own)
                return total + pull(pairs)[0], None

            return lax.scan(add, jnp.zeros_like(own), blocks)[0]

        def split(block: int) -> tuple[Array, Array, Array]:
            return _split(features, block), _split(values, block), _split(g, block)

        blocks = split(self.tile[1])
        rows = lax.map(row, split(self.tile[0]))
        return rows.reshape(-1, features.shape[1])[: features.shape[0]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _streamed(plan: _Plan, values: Array, features: Array) -> Array:
    return plan.sums(values, features)


def _streamed_forward(
    plan: _Plan, values: Array, features: Array
) -> tuple[Array, tuple[Array, Array]]:
    return plan.sums(values, features), (values, features)


def _streamed_backward(
    plan: _Plan, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    # Tiles are computed anew, so the backward pass needs no more memory than this one.
    values, features = saved
    return _streamed(plan, g, features), plan.feature_gradient(values, features, g)


_streamed.defvjp(_streamed_forward, _streamed_backward)
_exact = jax.jit(_streamed, static_argnums=0)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("features",),
    meta_fields=("tile", "distance", "form", "self_included"),
)
@dataclass(frozen=True)
class ExactFilter(SummingFilter):
    """The Gaussian filter as it is written, streamed tile by tile over all pixel pairs.

    Cost: `N^2` pairs, about 1 ns each on two cores at 21 labels: 6 ms at 50 x 50
    pixels, half a minute at 500 x 375. Memory: linear in `N`, forward and backward.
    Gradients reach the values and the features, so also the widths by which the
    features were divided.

    Attributes:
      features: `[N, d]` float32, divided by their widths.
      tile: pixels of each side of a tile of pairs; None: chosen by the backend.
      distance: see `pair_kernel`.
      form: "differences" subtracts features before squaring them and is exact to a few
        roundings; "attention" is a matrix product (see `attention_heads`), for
        accelerators, which are many times faster at these. "auto": the second on an
        accelerator, the first elsewhere, and for the Chebyshev distance.
      self_included: whether the sum has the pixel itself, as in every implementation,
        or leaves it out, as in the paper's equation.

    Raises:
      ValueError: for a form that the distance does not have.

    Example:
      >>> import jax.numpy as jnp
      >>> filter = ExactFilter(jnp.array([[0.0], [1.0]]))
      >>> [round(float(y), 4) for y in filter(jnp.array([[1.0], [0.0]]))[:, 0]]
      [1.0, 0.6065]
    """

    features: Array
    tile: tuple[int, int] | None = None
    distance: Distance = "euclidean"
    form: Form = "auto"
    self_included: bool = True

    def __post_init__(self) -> None:
        if self.distance == "chebyshev" and self.form == "attention":
            raise ValueError(
                'form is "attention" for the distance "chebyshev"; allowed is '
                '"differences"'
            )

    def sums(self, values: Array) -> Array:
        """See `SummingFilter`."""
        accelerator = platform() != "cpu"
        form = self.form
        if form == "auto":
            attention = accelerator and self.distance == "euclidean"
            form = "attention" if attention else "differences"
        tile = self.tile or (_ACCELERATOR_TILE if accelerator else _CPU_TILE)
        queries, keys = (min(side, values.shape[0]) for side in tile)
        return _exact(
            _Plan((queries, keys), self.distance, form), values, self.features
        )
