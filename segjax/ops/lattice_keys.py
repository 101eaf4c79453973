"""Where pixels lie in a permutohedral lattice, and its vertices as integers.

A vertex of remainder `k` has coordinates `(d + 1) m_i + k` for `i = 0 .. d`, which sum
up to zero; so `m_1 .. m_d` and `k` are all of it. The combinations

    u_j = m_j + floor(sum_{i > j} m_i / (j + 1)),  j = d .. 1,

belong one to one to `m`, and `u_j` follows feature `j` alone: the box of all `u` is
tight, about 0.8 times the extent of each feature. A mixed radix over that box and `k`
gives each vertex an integer below 2^31 without collisions.

Tables find vertices by their integers. Both number them in the same order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.types import Array

MOST_CELLS = 2.0**31 - 2.0**8
_LARGEST = 2.0**24
"""Coordinates from which on float32 does not tell neighbouring vertices apart."""
"""Cells that 32 bits number, in float32."""

_NO_KEY = np.iinfo(np.int32).max
_BITS = 32
_GROUP = 256

_dataclass = functools.partial(jax.tree_util.register_dataclass, meta_fields=())


@functools.partial(
    _dataclass, data_fields=("keys", "weights", "low", "radix", "cells", "ok")
)
@dataclass(frozen=True)
class Places:
    """The simplex of each pixel.

    Attributes:
      keys: of its vertices `[d + 1, N]`, int32; row `k` has remainder `k`.
      weights: barycentric shares `[d + 1, N]`.
      low: least `u_j` `[d]`.
      radix: number of values of `u_j` `[d]`.
      cells: product of the radices and `d + 1`, float32, so that it cannot wrap.
      ok: whether keys are exact.
    """

    keys: Array
    weights: Array
    low: Array
    radix: Array
    cells: Array
    ok: Array


def _elevate(features: Array) -> list[Array]:
    """Coordinates on the hyperplane, `d + 1` times `[N]`; sums as in pydensecrf."""
    d = features.shape[1]
    deviation = np.sqrt(2 / 3) * (d + 1)
    total = jnp.zeros(features.shape[:1], features.dtype)
    result = []
    for j in range(d, 0, -1):
        scaled = features[:, j - 1] * np.float32(deviation / np.sqrt(j * (j + 1)))
        result.append(total - j * scaled)
        total = total + scaled
    return [total, *reversed(result)]


def _simplex(elevated: list[Array]) -> tuple[list[Array], list[Array], Array]:
    """The nearest point of remainder 0 in units of `d + 1`, ranks, and shares."""
    number = len(elevated)
    down = np.float32(1 / number)
    # Half goes to even, and of equal differences the later coordinate ranks higher.
    nearest = [jnp.round(e * down) for e in elevated]
    rest = [e - number * m for e, m in zip(elevated, nearest, strict=True)]
    excess = functools.reduce(jnp.add, nearest).astype(jnp.int32)
    ranks = [excess] * number
    for i in range(number):
        for j in range(i + 1, number):
            less = (rest[i] < rest[j]).astype(jnp.int32)
            ranks[i] = ranks[i] + less
            ranks[j] = ranks[j] + 1 - less
    points = []
    for i, rank in enumerate(ranks):
        step = (rank < 0).astype(jnp.int32) - (rank >= number).astype(jnp.int32)
        ranks[i] = rank + number * step
        points.append(nearest[i].astype(jnp.int32) + step)
    shifts = [
        (e - number * m.astype(e.dtype)) * down
        for e, m in zip(elevated, points, strict=True)
    ]
    zero = jnp.zeros_like(shifts[0])
    by_rank = [
        functools.reduce(
            jnp.add,
            [jnp.where(r == rank, v, zero) for v, r in zip(shifts, ranks, strict=True)],
        )
        for rank in range(number)
    ]
    shares = [by_rank[-1] + (1 - by_rank[0])]
    shares += [by_rank[-1 - k] - by_rank[-k] for k in range(1, number)]
    return points, ranks, jnp.stack(shares)


def _digits(points: list[Array]) -> list[Array]:
    """`u_1 .. u_d` from `m_1 .. m_d`."""
    result, above = [], jnp.zeros_like(points[0])
    for j in range(len(points), 0, -1):
        result.append(points[j - 1] + jnp.floor_divide(above, j + 1))
        above = above + points[j - 1]
    return result[::-1]


def _points(digits: list[Array]) -> list[Array]:
    """`m_1 .. m_d` from `u_1 .. u_d`."""
    result, above = [], jnp.zeros_like(digits[0])
    for j in range(len(digits), 0, -1):
        point = digits[j - 1] - jnp.floor_divide(above, j + 1)
        result.append(point)
        above = above + point
    return result[::-1]


def _encode(digits: list[Array], remainder: Array, low: Array, radix: Array) -> Array:
    key = jnp.zeros_like(digits[0])
    for j in reversed(range(len(digits))):
        key = key * radix[j] + (digits[j] - low[j])
    return key * (len(digits) + 1) + remainder


def _wall(x: list[Array], condition: Array) -> list[Array]:
    """Keeps XLA from computing `x` again in each of its uses; zeros if not `condition`."""
    return lax.cond(condition, lambda x: x, lambda x: [jnp.zeros_like(a) for a in x], x)


def place(features: Array) -> Places:
    """Finds the simplex of each pixel.

    Args:
      features: `[N, d]` float32.

    Returns:
      Keys and shares of its vertices.
    """
    d = features.shape[1]
    elevated = _elevate(features)
    # False for NaN, too. Far out whole numbers of 32 bits would wrap around.
    finite = functools.reduce(jnp.maximum, [jnp.abs(e).max() for e in elevated])
    finite = finite < _LARGEST
    elevated = _wall(elevated, finite)
    points, ranks, weights = _simplex(elevated)
    *walled, weights = _wall([*points[1:], *ranks[1:], weights], finite)
    points, ranks = walled[:d], walled[d:]
    remainder = jnp.arange(d + 1, dtype=jnp.int32)[:, None]
    corners = [
        point[None] - (rank[None] > d - remainder).astype(jnp.int32)
        for point, rank in zip(points, ranks, strict=True)
    ]
    digits = _wall(_digits(corners), finite)
    low = jnp.stack([u.min() for u in digits])
    radix = jnp.stack([u.max() for u in digits]) - low + 1
    cells = (d + 1) * jnp.prod(radix.astype(jnp.float32))
    cells = jnp.where(finite, cells, jnp.inf)
    keys = _encode(digits, jnp.broadcast_to(remainder, digits[0].shape), low, radix)
    return Places(keys, weights, low, radix, cells, finite & (cells <= MOST_CELLS))


def neighbor_keys(
    places: Places, vertices: Array, axis: Array
) -> list[tuple[Array, Array]]:
    """Finds the vertices before and after along an axis of the lattice.

    Along axis `j` coordinate `j` falls by `d` and all others rise by 1, or the reverse.

    Args:
      places: whose box the keys belong to.
      vertices: keys `[M]`; negative: none.
      axis: `j`, 0 to d, a scalar.

    Returns:
      Twice the keys `[M]`, and whether they are inside of the box `[M]`.
    """
    d = places.low.shape[0]
    remainder, rest = vertices % (d + 1), vertices // (d + 1)
    digits = []
    for j in range(d):
        digits.append(rest % places.radix[j] + places.low[j])
        rest = rest // places.radix[j]
    points = _points(digits)
    result = []
    for step in (-1, 1):
        carried = remainder == (0 if step < 0 else d)
        moved = [
            point + step * (carried.astype(jnp.int32) - (axis == j))
            for j, point in enumerate(points, 1)
        ]
        digits = _digits(moved)
        inside = vertices >= 0
        for j, u in enumerate(digits):
            inside &= (u >= places.low[j]) & (u < places.low[j] + places.radix[j])
        other = jnp.where(carried, d if step < 0 else 0, remainder + step)
        key = _encode(digits, other, places.low, places.radix)
        result.append((jnp.where(inside, key, 0), inside))
    return result


def _prefix(counts: Array) -> Array:
    """Sum of all entries before each one, in two levels, which is quick."""
    size = counts.shape[0]
    groups = jnp.pad(counts, (0, -size % _GROUP)).reshape(-1, _GROUP)
    within = jnp.cumsum(groups, axis=1) - groups
    sums = groups.sum(1)
    before = jnp.cumsum(sums) - sums
    return (within + before[:, None]).reshape(-1)[:size]


@functools.partial(_dataclass, data_fields=("words", "prefix", "count", "ok"))
@dataclass(frozen=True)
class Bitmap:
    """One bit for each cell, and how many are set before each word.

    Attributes:
      words: bits `[T / 32]`, uint32.
      prefix: set bits before each word `[T / 32]`, int32.
      count: set bits.
      ok: whether the table had room for all cells.
    """

    words: Array
    prefix: Array
    count: Array
    ok: Array

    def find(self, keys: Array) -> Array:
        """Numbers of keys that are in the table."""
        word = jnp.minimum(keys >> 5, self.words.shape[0] - 1)
        lower = (jnp.uint32(1) << (keys & 31).astype(jnp.uint32)) - 1
        bits = lax.population_count(self.words[word] & lower)
        return self.prefix[word] + bits.astype(jnp.int32)

    def has(self, keys: Array) -> Array:
        """Whether each key is in the table."""
        word = jnp.minimum(keys >> 5, self.words.shape[0] - 1)
        return (self.words[word] >> (keys & 31).astype(jnp.uint32)) & 1 == 1


def make_bitmap(places: Places, size: int) -> Bitmap:
    """Marks the keys of an image in a table of `size` cells."""
    used = jnp.zeros((-(-size // _BITS) * _BITS,), jnp.uint8)
    used = used.at[places.keys].set(1, mode="drop").reshape(-1, _BITS)
    shifts = jnp.arange(_BITS, dtype=jnp.uint32)[None]
    words = (used.astype(jnp.uint32) << shifts).sum(1, dtype=jnp.uint32)
    counts = lax.population_count(words).astype(jnp.int32)
    prefix = _prefix(counts)
    return Bitmap(words, prefix, prefix[-1] + counts[-1], places.cells <= size)


@functools.partial(_dataclass, data_fields=("keys", "count", "ok"))
@dataclass(frozen=True)
class Sorted:
    """The keys in their order, for boxes of too many cells.

    Attributes:
      keys: `[S]`, unused ones at the end.
      count: keys in use.
      ok: always.
    """

    keys: Array
    count: Array
    ok: Array

    def find(self, keys: Array) -> Array:
        """Numbers of keys that are in the table."""
        return jnp.searchsorted(self.keys, keys, method="scan").astype(jnp.int32)

    def has(self, keys: Array) -> Array:
        """Whether each key is in the table."""
        number = jnp.minimum(self.find(keys), self.keys.shape[0] - 1)
        return self.keys[number] == keys


def make_sorted(places: Places, size: int) -> Sorted:
    """Sorts the keys of an image, and keeps the first `size` different ones."""
    ordered = jnp.sort(places.keys.reshape(-1))
    fresh = jnp.concatenate([jnp.ones((1,), bool), ordered[1:] != ordered[:-1]])
    number = _prefix(fresh.astype(jnp.int32))
    count = number[-1] + fresh[-1].astype(jnp.int32)
    target = jnp.where(fresh, number, size)
    keys = jnp.full((size,), _NO_KEY, jnp.int32).at[target].set(ordered, mode="drop")
    return Sorted(keys, count, jnp.ones((), bool))


Table: TypeAlias = Bitmap | Sorted
