"""Weights find their places in the network of an experiment, wherever they come from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import ml_collections
from flax import traverse_util

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.runs.class_mapping import KEY, Classes, columns_of, map_heads

log = logging.getLogger("segjax")

SHOWN = 6
"""Parameters that a message names."""

Leaves: TypeAlias = dict[str, dict[str, Any]]
"""Parameters and statistics of a network by collection and by path."""


@dataclasses.dataclass(frozen=True)
class FoundWeights:
    """Weights with the names of our networks, before they are fitted to one.

    Attributes:
      leaves: by collection and by path, such as "logits/kernel".
      num_classes: of the head; None where there is no head.
      classes: names of the classes.
      channels: of the images.
      about: where they come from; JSON, kept beside each checkpoint.
    """

    leaves: Leaves
    num_classes: int | None
    classes: tuple[str, ...]
    channels: int
    about: dict[str, Any]


def place(
    found: FoundWeights,
    target: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    channels: int,
    *,
    skip_mismatch: bool,
) -> dict[str, Any]:
    """Checks that a network has a place for everything that is taken.

    Args:
      found: the weights.
      target: shapes of the network's collections.
      config: the experiment that begins with them.
      channels: of its images.
      skip_mismatch: whether parameters that have another shape here are left out, where
        there is another number of classes or channels.

    Returns:
      Collections like `target`, those leaves that the weights have.

    Raises:
      UserError: if they have parameters that the network lacks.
    """
    theirs, places = found.leaves, flattened(target)
    if skip_mismatch and (what := _other_sizes(found, config, channels)):
        theirs = _matching(theirs, places, what)
    source = found.about["input"]
    _require_places(theirs, places, source)
    modules = {name.rpartition("/")[0]: None for name in places["params"]}
    filled = {name.rpartition("/")[0] for name in theirs["params"]}
    log.info(
        "Weights    %d modules from %s; random: %s",
        len(filled),
        source,
        ", ".join(x for x in modules if x not in filled) or "nothing",
    )
    return {
        collection: traverse_util.unflatten_dict(jax.device_get(leaves), sep="/")
        for collection, leaves in theirs.items()
    }


def with_classes(
    found: FoundWeights,
    target: Mapping[str, Any],
    other: Mapping[str, Any],
    label_spec: LabelSpec,
    classes: Classes,
) -> FoundWeights:
    """Makes the heads of weights those of other classes, by the names of both.

    Args:
      found: the weights.
      target: shapes of the network's collections.
      other: those of the same network with another number of classes.
      label_spec: the classes of the data.
      classes: the pairs of `config.initialization.classes`.

    Returns:
      The weights, with heads for the classes of the data.

    Raises:
      UserError: if names or heads do not fit.
    """
    if found.num_classes is None:
        raise UserError(
            f"{KEY} is for weights of a network that labels pixels, with its head, which those "
            f"of {found.about['source']} are not: leave it out."
        )
    if len(found.classes) != found.num_classes:
        raise UserError(
            f"{KEY} is for heads with one logit for each class; these weights have "
            f"{found.num_classes} for {len(found.classes)} classes. Leave it out."
        )
    columns = columns_of(label_spec.names, found.classes, classes)
    theirs, mapped, left_out = map_heads(
        found.leaves,
        flattened(target),
        flattened(other),
        tuple(columns.values()),
        found.num_classes,
    )
    if not mapped:
        raise UserError(
            f"{KEY}: no layer of these weights that config.model has, too, has one output "
            "for each class. Leave it out."
        )
    heads = dict.fromkeys(path.rpartition("/")[0] for path in mapped)
    pairs = _in_words(columns, found.classes)
    log.info("Classes    of %s begin as %s", ", ".join(heads), pairs)
    if left_out:
        log.info("New layers %s", ", ".join(left_out))
    return dataclasses.replace(
        found,
        leaves=theirs,
        num_classes=len(columns),
        classes=tuple(columns),
    )


def _in_words(columns: Mapping[str, int | None], theirs: tuple[str, ...]) -> str:
    names = {
        name: "the mean of all" if place is None else theirs[place]
        for name, place in columns.items()
    }
    return ", ".join(f"{name}: {other}" for name, other in names.items())


def flattened(tree: Mapping[str, Any]) -> Leaves:
    """The leaves of collections by their paths, such as "logits/kernel"."""
    return {
        collection: traverse_util.flatten_dict(dict(leaves), sep="/")
        for collection, leaves in tree.items()
    }


def _other_sizes(
    found: FoundWeights, config: ml_collections.ConfigDict, channels: int
) -> str:
    """Says which sizes of the network the data have changed; empty where none."""
    ours = config.model.num_classes
    theirs = ours if found.num_classes is None else found.num_classes
    pairs = {
        "classes": (theirs, ours),
        "channels": (found.channels, channels),
    }
    changed = [
        f"{now} {x} (were {was})" for x, (was, now) in pairs.items() if was != now
    ]
    return " and ".join(changed)


def _matching(theirs: Leaves, places: Leaves, what: str) -> Leaves:
    """Leaves out what has another shape here; says which layers are new by that."""
    kept: Leaves = {}
    new: list[str] = []
    for collection, leaves in theirs.items():
        here = places.get(collection, {})
        wrong = [
            name
            for name, leaf in leaves.items()
            if name in here and _shape(here[name]) != _shape(leaf)
        ]
        new += [name.rpartition("/")[0] for name in wrong]
        kept[collection] = {k: leaf for k, leaf in leaves.items() if k not in wrong}
    if new:
        log.info("New layers %s, as there are %s", ", ".join(dict.fromkeys(new)), what)
    return kept


def _require_places(theirs: Leaves, places: Leaves, source: str) -> None:
    """Checks that the network has a place for everything that is taken."""
    homeless = [
        _described(name, leaf, places.get(collection, {}))
        for collection, leaves in theirs.items()
        for name, leaf in leaves.items()
        if _shape(places.get(collection, {}).get(name)) != _shape(leaf)
    ]
    if homeless:
        more = f" and {len(homeless) - SHOWN} more" if len(homeless) > SHOWN else ""
        raise UserError(
            f"config.initialization.input is {source}, whose network has what "
            f"config.model has no place for: {', '.join(homeless[:SHOWN])}{more}. Leave it out with "
            "config.initialization.skip, or choose the run of a network that is a part "
            "of this one; --continue_from without --config takes the run's own network."
        )


def _shape(leaf: Any) -> tuple[int, ...] | None:
    return None if leaf is None else tuple(leaf.shape)


def _described(name: str, leaf: Any, places: Mapping[str, Any]) -> str:
    text = f"{name} {_shape(leaf)}"
    return f"{text}, here {_shape(places[name])}" if name in places else text
