"""Heads that begin from those of other weights, class by class, by the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from segjax.errors import UserError, shown, suggestion

Classes: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of a class of the data and the class of the weights that it begins from."""

KEY = "config.initialization.classes"

Leaves: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Parameters and statistics of a network by collection and by path."""


def check_classes(classes: Any) -> None:
    """Checks that classes are such pairs.

    Raises:
      ValueError: if they are not.
    """
    allowed = 'pairs of names, such as (("Road", "road"), ("Pavement", "sidewalk"))'
    if not isinstance(classes, tuple):
        raise ValueError(f"classes must be a tuple of {allowed}, got {classes!r}")
    for pair in classes:
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(name, str) for name in pair):
            raise ValueError(f"classes must be {allowed}, got {pair!r}")
    ours = [name for name, _ in classes]
    if twice := [name for name in ours if ours.count(name) > 1]:
        raise ValueError(f'classes must have one pair for "{twice[0]}", got two')


def columns_of(
    ours: Sequence[str], theirs: Sequence[str], classes: Classes
) -> dict[str, int | None]:
    """Finds the class of some weights that each class of the data begins from.

    A class without a pair is that of the same name, in upper or lower case.

    Args:
      ours: names of the classes of the data.
      theirs: those of the weights.
      classes: the pairs.

    Returns:
      For each class of the data the place in `theirs`; None where it has no counterpart.

    Raises:
      UserError: if a pair names a class that is not there, or no class has a counterpart.

    Example:
      >>> pairs = (("Pavement", "sidewalk"),)
      >>> columns_of(("Sky", "Pavement", "Dog"), ("sidewalk", "sky"), pairs)
      {'Sky': 1, 'Pavement': 0, 'Dog': None}
    """
    for name, other in classes:
        if name not in ours:
            raise UserError(
                f'{KEY} names "{name}", which is not a class of the data.'
                f"{suggestion(name, ours)}"
            )
        if other not in theirs:
            raise UserError(
                f'{KEY} names "{other}" for "{name}", which is not a class of the weights.'
                f"{suggestion(other, theirs)}"
            )
    alike = {name.casefold(): i for i, name in enumerate(theirs)}
    chosen = {name: i for i, name in enumerate(theirs)}
    chosen |= {name: theirs.index(other) for name, other in classes}
    found = {name: chosen.get(name, alike.get(name.casefold())) for name in ours}
    if all(place is None for place in found.values()):
        raise UserError(
            f"{KEY} is {shown(classes)}, but none of the classes of the data "
            f"({', '.join(ours)}) is one of the weights ({', '.join(theirs)}): give pairs "
            "of names, or leave the key out for a new head."
        )
    return found


def map_heads(
    leaves: Leaves,
    target: Leaves,
    other: Leaves,
    columns: Sequence[int | None],
    num_classes: int,
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Makes the heads for other classes out of those of some weights.

    A class has the kernel and the bias of its counterpart, and without one the mean of all,
    which makes it neither likely nor unlikely. Layers that depend on the number of classes in
    another way, such as a learned interpolation of scores, are left out.

    Args:
      leaves: the weights.
      target: shapes of the network.
      other: those of the same network with another number of classes, which shows what
        depends on it.
      columns: for each class of the network the place of its counterpart, or None.
      num_classes: of the weights.

    Returns:
      The weights for the classes of the network; paths that were mapped; paths left out.
    """
    mapped: list[str] = []
    left_out: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for collection, named in leaves.items():
        here, there = target.get(collection, {}), other.get(collection, {})
        found[collection] = {}
        for path, leaf in named.items():
            depends = path in here and tuple(here[path].shape) != there[path].shape
            if not depends:
                found[collection][path] = leaf
                continue
            *rest, last = here[path].shape
            is_head = last == len(columns) and tuple(leaf.shape) == (*rest, num_classes)
            if is_head and there[path].shape[:-1] == tuple(rest):
                found[collection][path] = take_columns(np.asarray(leaf), columns)
                mapped.append(path)
            else:
                left_out.append(path)
    return found, mapped, left_out


def take_columns(leaf: np.ndarray, columns: Sequence[int | None]) -> np.ndarray:
    """Takes places of the last axis, and the mean over it where there is no place.

    Args:
      leaf: `[..., K]`, a kernel or a bias.
      columns: the places, 0 to K - 1, or None.

    Returns:
      `[..., len(columns)]`, of the same dtype.

    Example:
      >>> take_columns(np.array([1.0, 3.0, 8.0]), [2, 2, None])
      array([8., 8., 4.])
    """
    taken = [leaf.mean(-1) if x is None else leaf[..., x] for x in columns]
    return np.stack(taken, -1).astype(leaf.dtype)
