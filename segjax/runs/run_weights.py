"""Weights of one of our own runs, for the start of another."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import traverse_util

from segjax.errors import UserError
from segjax.runs.load import TrainedModel, load_trained
from segjax.training.about import TRAIN_IMAGES
from segjax.training.checkpoints.checkpoint_files import CHECKPOINTS

log = logging.getLogger("segjax")

RUN = "segjax/run"
"""The name of this source in `config.initialization`: `input` is the run's folder, or that
of one of its checkpoints, as `runs/a/checkpoints/200`, or a model file."""

SHOWN = 6
"""Parameters that a message names."""


def weights_of_run(
    path: Path,
    skip: Sequence[str],
    target: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    channels: int,
    *,
    skip_mismatch: bool = False,
    allow_code: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Takes from a run the parameters that a network has by the same names.

    This is how FCN is trained in stages: the network with one more skip takes over
    all parameters of the one before, and initialises those that are new.

    Args:
      path: folder of the run, whose newest checkpoint counts, or of one checkpoint; or a
        model file.
      skip: modules or parameters of it that are left out.
      target: shapes of the network's collections.
      config: the experiment that begins with them.
      channels: of its images.
      skip_mismatch: whether parameters that have another shape here are left out, where
        there is another number of classes or channels.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      Collections like `target`, those leaves that the run has; and where they come
      from, JSON.

    Raises:
      UserError: if there is no such run, or it has parameters that the network lacks.
    """
    trained = _load(path, allow_code)
    theirs = {
        collection: {
            name: leaf
            for name, leaf in traverse_util.flatten_dict(tree, sep="/").items()
            if not any(f"{name}/".startswith(f"{part}/") for part in skip)
        }
        for collection, tree in trained.variables.items()
    }
    places = {
        collection: traverse_util.flatten_dict(dict(tree), sep="/")
        for collection, tree in target.items()
    }
    if skip_mismatch and (what := _other_sizes(trained, config, channels)):
        theirs = _matching(theirs, places, what)
    _require_places(theirs, places, path)
    random = [name for name in places["params"] if name not in theirs["params"]]
    log.info("Weights    %d parameters from %s", len(theirs["params"]), path)
    log.info("           random: %s", ", ".join(random) or "nothing")
    ours, normalization = trained.task.config, config.pipeline.get("normalization")
    if (was := ours.pipeline.get("normalization")) != normalization:
        log.warning(
            'config.pipeline.normalization is "%s", but the weights of %s were trained with '
            '"%s".',
            normalization,
            path,
            was,
        )
    kept = {
        collection: traverse_util.unflatten_dict(jax.device_get(leaves), sep="/")
        for collection, leaves in theirs.items()
    }
    about: dict[str, Any] = {
        "source": RUN,
        "input": str(path),
        "sha256": trained.parameters_sha256,
        TRAIN_IMAGES: trained.about.get(TRAIN_IMAGES, []),
    }
    return kept, about


def _load(path: Path, allow_code: Collection[str]) -> TrainedModel:
    is_one = path.parent.name == CHECKPOINTS and path.name.isdecimal()
    run, step = (path.parent.parent, int(path.name)) if is_one else (path, None)
    try:
        return load_trained(run, step=step, allow_code=allow_code).single(
            "A network to begin with"
        )
    except UserError as error:
        message = str(error).replace(f"--workdir={run}", str(run))
        raise UserError(f"config.initialization.input: {message}") from error


def _other_sizes(
    trained: TrainedModel, config: ml_collections.ConfigDict, channels: int
) -> str:
    """Says which sizes of the network the data have changed; empty where none."""
    pairs = {
        "classes": (trained.task.config.model.num_classes, config.model.num_classes),
        "channels": (trained.channels, channels),
    }
    changed = [
        f"{now} {x} (were {was})" for x, (was, now) in pairs.items() if was != now
    ]
    return " and ".join(changed)


def _matching(
    theirs: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Mapping[str, Any]],
    what: str,
) -> dict[str, dict[str, Any]]:
    """Leaves out what has another shape here; says which layers are new by that."""
    kept: dict[str, dict[str, Any]] = {}
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
    log.info("New layers %s, as there are %s", ", ".join(dict.fromkeys(new)), what)
    return kept


def _require_places(
    theirs: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> None:
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
            f"config.initialization.input is {path}, whose network has what "
            f"config.model has no place for: {', '.join(homeless[:SHOWN])}{more}. Leave it out with "
            "config.initialization.skip, or choose the run of a network that is a part "
            "of this one; --continue_from without --config takes the run's own network."
        )


def _shape(leaf: Any) -> tuple[int, ...] | None:
    return None if leaf is None else tuple(leaf.shape)


def _described(name: str, leaf: Any, places: Mapping[str, Any]) -> str:
    text = f"{name} {_shape(leaf)}"
    return f"{text}, here {_shape(places[name])}" if name in places else text
