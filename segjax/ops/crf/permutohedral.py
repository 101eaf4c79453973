"""The permutohedral lattice: Gaussian filtering in five dimensions in linear time.

Features `[N, d]` are mapped to a hyperplane of `d + 1` dimensions, tiled by simplices.
Each pixel gives its values to the `d + 1` vertices of its simplex in barycentric weights
(splat), the vertices are blurred along the `d + 1` axes of the lattice, and each pixel
reads its vertices back (slice). Cost: `(d + 1) (N + M) C` for `M` vertices.

What it approximates: the Gaussian of `ExactFilter`. After normalisation it is 6 to 12 %
off in relative L2, and a shift of all features by a constant changes it by 4 %; so what
can be asked for is equality with another implementation of the same lattice, pydensecrf,
and that is what the tests ask for. Without normalisation its gain is not 1 but 0.9
(d = 1) to 0.55 (real images, d = 5).

There is no hash table. A vertex is its coordinates modulo `d + 1`, and these are
triangular in the features, so that a mixed radix turns them into one integer of 32 bits,
exactly (`segjax/ops/crf/vertex_keys.py`). Shapes are static: capacity is an argument, and
too little of it is never silent.

Source: Adams, Baek and Davis, *Fast High-Dimensional Filtering Using the Permutohedral
Lattice*, 2010, section 3; conventions of Kraehenbuehl and Koltun's code (2011).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.crf.features import is_concrete
from segjax.ops.crf.lattice import LatticeFilter
from segjax.ops.crf.vertex_keys import (
    MOST_CELLS,
    Places,
    Table,
    make_bitmap,
    make_sorted,
    neighbor_keys,
    place,
)
from segjax.types import Array

LARGEST_BITMAP = 1 << 27
"""Cells up to which a bitmap finds vertices faster than sorting does."""

CACHED_VERTICES = 1 << 17
"""Vertices whose values a processor's cache holds."""


class CapacityError(ValueError):
    """A lattice has more vertices, or more cells, than it was given room for."""


class LatticeSize(NamedTuple):
    """The size of a lattice that an image needs.

    Attributes:
      vertices: M, at most `(d + 1) N`.
      cells: of the table of a bitmap; the box of all vertices.
    """

    vertices: int
    cells: int


_place = jax.jit(place)
_make_bitmap = jax.jit(make_bitmap, static_argnums=1)
_make_sorted = jax.jit(make_sorted, static_argnums=1)


def _finish(places: Places, table: Table, max_vertices: int) -> LatticeFilter:
    """Numbers the vertices of each pixel, and finds the neighbours of each vertex."""
    keys = places.keys
    index = table.find(keys)
    room = jnp.minimum(index, max_vertices)
    vertices = jnp.full((max_vertices + 1,), -1, jnp.int32).at[room].set(keys)
    vertices = vertices.at[max_vertices].set(-1)

    around = neighbor_keys(places, vertices)
    exists = (around >= 0) & table.has(around)
    neighbors = jnp.where(exists, table.find(around), max_vertices)
    neighbors = jnp.minimum(neighbors, max_vertices)
    ok = (table.count <= max_vertices) & table.ok & places.ok
    weights = jnp.where(ok, places.weights, jnp.nan)
    return LatticeFilter(room.T, weights.T, neighbors, table.count, places.cells, ok)


_jitted_finish = jax.jit(_finish, static_argnums=2)


def _rounded_up(number: int, steps: int) -> int:
    """The next of `steps` sizes of each octave, so that images share a program."""
    unit = max(1, (1 << max(number - 1, 1).bit_length() - 1) // steps)
    return -(-number // unit) * unit


def rounded_capacity(count: int) -> int:
    """How many vertices a program is made for.

    A program takes seconds to compile. Vertices beyond those in use cost next to nothing
    while all of them fit into a processor's cache, and time in proportion beyond.
    """
    return _rounded_up(count, 2 if count <= CACHED_VERTICES else 8)


def _check_features(features: Array) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"features has the shape {list(features.shape)}; allowed is [N, d] of at "
            "least one pixel and one feature"
        )


def lattice_size(features: Array) -> LatticeSize:
    """Counts the vertices and cells that a lattice needs; outside of `jit` only.

    Args:
      features: `[N, d]`, divided by their widths.

    Returns:
      The least `max_vertices` and `table_size` of `permutohedral_lattice`.

    Raises:
      CapacityError: if 32 bits do not number the cells.
    """
    _check_features(features)
    places = _place(features)
    return LatticeSize(int(_table(places).count), int(places.cells))


def _table(places: Places) -> Table:
    """The table of a placed image, bitmap or sorted as its number of cells asks for."""
    cells = float(places.cells)
    if not cells <= MOST_CELLS:
        raise CapacityError(
            f"the lattice has {cells:.3g} cells; allowed are {MOST_CELLS:.3g}, so take "
            'larger widths, or the method "exact" or "window"; it has fewer axes for '
            "images of fewer channels, and needs finite features"
        )
    if cells > LARGEST_BITMAP:
        return _make_sorted(places, places.keys.size)
    return _make_bitmap(places, _rounded_up(int(cells), 2))


def permutohedral_lattice(
    features: Array, *, max_vertices: int | None = None, table_size: int | None = None
) -> LatticeFilter:
    """Builds the lattice of one image.

    Outside of `jit` and without sizes, what is needed is counted, then rounded up so
    that images of one kind share a program. Under `jit` sizes have to be static: without
    them there is room for every case, `(d + 1) N` vertices found by sorting, which is
    several times slower and larger than with the sizes of `lattice_size`. Gradients
    stop at the features.

    Args:
      features: `[N, d]` float32, divided by their widths.
      max_vertices: vertices to make room for; blurring costs as much whether they are
        used or not.
      table_size: cells of a bitmap, which finds vertices fast where cells are few
        (1 byte each while it is built); None under `jit`: sorting.

    Returns:
      The lattice, a filter `[N, C]` to `[N, C]`. Where its sizes are too small under
      `jit`, it fills every result with NaN.

    Raises:
      CapacityError: outside of `jit`, if a size is too small; it names what is needed.

    Example:
      >>> import jax.numpy as jnp
      >>> lattice = permutohedral_lattice(jnp.zeros((4, 2)))
      >>> int(lattice.count)
      3
      >>> [round(float(y), 2) for y in lattice(jnp.eye(4))[0]]
      [0.9, 0.9, 0.9, 0.9]
    """
    _check_features(features)
    for name, size in (("max_vertices", max_vertices), ("table_size", table_size)):
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}; allowed is 1 or more")
    features = lax.stop_gradient(features.astype(jnp.float32))
    places = _place(features)
    bound = places.keys.size
    table: Table
    if not is_concrete(features):
        if table_size is None:
            table = make_sorted(places, bound)
        else:
            table = make_bitmap(places, table_size)
        return _finish(places, table, min(max_vertices or bound, bound))
    if table_size is None:
        table = _table(places)
    else:
        table = _make_bitmap(places, table_size)
    room = rounded_capacity(int(table.count)) if max_vertices is None else max_vertices
    lattice = _jitted_finish(places, table, min(room, bound))
    check_capacity(lattice, table_size=table_size)
    return lattice


def check_capacity(lattice: LatticeFilter, *, table_size: int | None = None) -> None:
    """Checks that a lattice had room for its image; outside of `jit`.

    Args:
      lattice: of `permutohedral_lattice`.
      table_size: that it was built with, for the message.

    Raises:
      CapacityError: naming the sizes that are needed.
    """
    if bool(lattice.ok):
        return
    count, cells = int(lattice.count), float(lattice.cells)
    if table_size is not None and not cells <= table_size:
        raise CapacityError(
            f"table_size is {table_size}; this image needs {cells:.0f} cells"
        )
    if count > lattice.max_vertices:
        raise CapacityError(
            f"max_vertices is {lattice.max_vertices}; this image needs {count}"
        )
    raise CapacityError(
        f"the lattice has {cells:.3g} cells; allowed are {MOST_CELLS:.3g} of finite "
        "features"
    )
