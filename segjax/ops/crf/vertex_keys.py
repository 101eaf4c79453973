"""Where pixels lie in a permutohedral lattice, and its vertices as integers.

A vertex of remainder `k` has coordinates `(d + 1) m_i + k` for `i = 0 .. d`, which sum
up to zero; so `m_1 .. m_d` and `k` are all of it. The combinations

    u_j = m_j + floor(sum_{i > j} m_i / (j + 1)),  j = d .. 1,

belong one to one to `m`, and `u_j` follows feature `j` alone: the box of all `u` is
tight, about 0.8 times the extent of each feature. A mixed radix over that box and `k`
gives each vertex an integer below 2^31 without collisions. In two dimensions (`d = 2`), for
a box of `u_1 = -1 .. 2` and `u_2 = -1 .. 3`, whose radices are 4 and 5:

    coordinates  (-8, 1, 7) = 3 (-3, 0, 2) + 1, so m = (-3, 0, 2) and k = 1
    digits       u_2 = m_2                  = 2
                 u_1 = m_1 + floor(m_2 / 2) = 1
    key          ((u_2 + 1) * 4 + (u_1 + 1)) * 3 + k = (3 * 4 + 2) * 3 + 1 = 43

    u_2   |            -1             |             0             | ...
    u_1   |  -1  |   0  |   1  |   2  |  -1  |   0  |   1  |   2  | ...
    k     |0 1 2 |0 1 2 |0 1 2 |0 1 2 |0 1 2 |0 1 2 |0 1 2 |0 1 2 | ...
    key   |0 1 2 |3 4 5 |6 7 8 |9  11 |12    |15    |18    |21    | ...

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

from segjax.ops.cpu.materialization import materialize
from segjax.types import Array

MOST_CELLS = 2.0**31 - 2.0**8
"""Cells that 32 bits number, in float32."""
_LARGEST = 2.0**24
"""Coordinates from which float32 does not distinguish neighbouring vertices."""

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
      weights: barycentric weights `[d + 1, N]`.
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
    std = np.sqrt(2 / 3) * (d + 1)
    total = jnp.zeros(features.shape[:1], features.dtype)
    result = []
    for j in range(d, 0, -1):
        scaled = features[:, j - 1] * np.float32(std / np.sqrt(j * (j + 1)))
        result.append(total - j * scaled)
        total = total + scaled
    return [total, *reversed(result)]


def _simplex(elevated: list[Array]) -> tuple[list[Array], list[Array], Array]:
    """The nearest point of remainder 0 in units of `d + 1`, ranks, and weights."""
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
    # Barycentric coordinates are the gaps between the shifts v_0 > v_1 > .. > v_d, by rank,
    # and what is left of 1: the vertex of remainder 0 gets 1 - (v_0 - v_d), that of
    # remainder k the gap v_(d - k) - v_(d + 1 - k).
    weights = [by_rank[-1] + (1 - by_rank[0])]
    weights += [by_rank[-1 - k] - by_rank[-k] for k in range(1, number)]
    return points, ranks, jnp.stack(weights)


def _divided(points: list[Array]) -> tuple[list[Array], list[Array]]:
    """`u_1 .. u_d` from `m_1 .. m_d`, and what their divisions leave."""
    digits, left, above = [], [], jnp.zeros_like(points[0])
    for j in range(len(points), 0, -1):
        quotient = jnp.floor_divide(above, j + 1)
        digits.append(points[j - 1] + quotient)
        left.append(above - (j + 1) * quotient)
        above = above + points[j - 1]
    return digits[::-1], left[::-1]


def _corner(
    k: int, digits: list[Array], left: list[Array], ranks: list[Array]
) -> list[Array]:
    """`u_1 .. u_d` of the vertex of remainder `k`, from those of the vertex of 0.

    It is one lower in each coordinate of a rank above `d - k`. The floor in `u_j` falls
    by one for each `t >= 0` with which `t (j + 1)` and what the division left are less
    than the number of such coordinates behind `j`. So no division is needed.
    """
    d = len(digits)
    result, behind = [], jnp.zeros_like(digits[0])
    for j in range(d, 0, -1):
        lowered = (ranks[j - 1] > d - k).astype(jnp.int32)
        digit = digits[j - 1] - lowered
        for least in range(0, d - j, j + 1):
            digit = digit - (left[j - 1] + least < behind).astype(jnp.int32)
        result.append(digit)
        behind = behind + lowered
    return result[::-1]


def _left(digits: list[Array]) -> list[Array]:
    """Remainders of the divisions in `u_1 .. u_d`, from `u_1 .. u_d` themselves."""
    result, above = [], jnp.zeros_like(digits[0])
    for j in range(len(digits), 0, -1):
        quotient = jnp.floor_divide(above, j + 1)
        result.append(above - (j + 1) * quotient)
        above = above + digits[j - 1] - quotient
    return result[::-1]


def _encode(digits: list[Array], remainder: Array, low: Array, radix: Array) -> Array:
    key = jnp.zeros_like(digits[0])
    for j in reversed(range(len(digits))):
        key = key * radix[j] + (digits[j] - low[j])
    return key * (len(digits) + 1) + remainder


def place(features: Array) -> Places:
    """Finds the simplex of each pixel.

    Args:
      features: `[N, d]` float32.

    Returns:
      Keys and weights of its vertices.
    """
    d = features.shape[1]
    elevated = _elevate(features)
    # False for NaN, too. Far out integers of 32 bits would wrap around.
    finite = functools.reduce(jnp.maximum, [jnp.abs(e).max() for e in elevated])
    finite = finite < _LARGEST
    points, ranks, weights = materialize(_simplex, elevated, condition=finite)
    # Always so: a condition of its own, which reads all results of the branch before.
    small = (points[0].max() <= _LARGEST) & (ranks[0].max() <= d)
    digits, left = materialize(_divided, points[1:], condition=small)
    corners = [_corner(k, digits, left, ranks[1:]) for k in range(d + 1)]
    # Digits never rise with the remainder.
    low = jnp.stack([u.min() for u in corners[d]])
    radix = jnp.stack([u.max() for u in corners[0]]) - low + 1
    cells = (d + 1) * jnp.prod(radix.astype(jnp.float32))
    cells = jnp.where(finite, cells, jnp.inf)
    keys = [_encode(u, jnp.int32(k), low, radix) for k, u in enumerate(corners)]
    ok = finite & (cells <= MOST_CELLS)
    return Places(jnp.stack(keys), weights, low, radix, cells, ok)


def neighbor_keys(places: Places, vertices: Array) -> Array:
    """Finds the vertices before and after along each axis of the lattice.

    Along axis `j` coordinate `j` falls by `d` and all others rise by 1, or the reverse.

    Args:
      places: whose box the keys belong to.
      vertices: keys `[M]`; negative: none.

    Returns:
      Keys `[d + 1, 2, M]`, -1 where a neighbour is outside of the box.
    """
    d = places.low.shape[0]
    remainder, digits, left = materialize(
        _decode, places, vertices, condition=places.ok
    )

    def beside(axis: Array, step: int) -> Array:
        carried = remainder == (0 if step < 0 else d)
        risen = step * carried.astype(jnp.int32)
        moved, inside, behind = [], vertices >= 0, jnp.zeros_like(remainder)
        for j in range(d, 0, -1):
            rise = risen - step * (axis == j).astype(jnp.int32)
            carry = jnp.floor_divide(left[j - 1] + behind, j + 1)
            u = digits[j - 1] + rise + carry
            low, radix = places.low[j - 1], places.radix[j - 1]
            inside &= (u >= low) & (u < low + radix)
            moved.append(u)
            behind = behind + rise
        other = jnp.where(carried, d if step < 0 else 0, remainder + step)
        key = _encode(moved[::-1], other, places.low, places.radix)
        return jnp.where(inside, key, -1)

    # Stacked within the loop they would be computed one by one, seven times slower.
    axes = jnp.arange(d + 1, dtype=jnp.int32)
    both = lambda _, axis: (None, (beside(axis, -1), beside(axis, 1)))
    return jnp.stack(lax.scan(both, None, axes)[1], 1)


def _decode(places: Places, keys: Array) -> tuple[Array, list[Array], list[Array]]:
    """Remainders of vertices, `u_1 .. u_d`, and what the divisions in them leave."""
    rest = keys // (places.low.shape[0] + 1)
    remainder = keys - rest * (places.low.shape[0] + 1)

    def digit(rest: Array, place: tuple[Array, Array]) -> tuple[Array, Array]:
        low, radix = place
        quotient, rest = _divmod(rest, radix)
        return quotient, rest + low

    digits = list(lax.scan(digit, rest, (places.low, places.radix))[1])
    return remainder, digits, _left(digits)


def _divmod(x: Array, by: Array) -> tuple[Array, Array]:
    """`divmod` of integers `>= 0` by one, without division, which has no vector form.

    The first quotient is off by what float32 rounds, at most 128; the second by 1.
    """
    inverse = 1 / by.astype(jnp.float32)
    quotient = (x.astype(jnp.float32) * inverse).astype(jnp.int32)
    rest = x - quotient * by
    more = jnp.floor(rest.astype(jnp.float32) * inverse).astype(jnp.int32)
    quotient, rest = quotient + more, rest - more * by
    more = (rest >= by).astype(jnp.int32) - (rest < 0).astype(jnp.int32)
    return quotient + more, rest - more * by


def exclusive_cumsum(counts: Array) -> Array:
    """Sum of all entries before each one, in two levels, which is fast."""
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
        # Key 43 is bit 11 of word 1. Its number: the bits set in the words before, and
        # those below it in its own.
        #
        #   word   |       0       |            1            |
        #   bits   | 31 .. .. .. 0 | 31 .. 12 [11] 10 .. .. 0 |
        #                                         \_ lower _/
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
    prefix = exclusive_cumsum(counts)
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
    number = exclusive_cumsum(fresh.astype(jnp.int32))
    count = number[-1] + fresh[-1].astype(jnp.int32)
    target = jnp.where(fresh, number, size)
    keys = jnp.full((size,), _NO_KEY, jnp.int32).at[target].set(ordered, mode="drop")
    return Sorted(keys, count, jnp.ones((), bool))


Table: TypeAlias = Bitmap | Sorted
