"""Weights of one of our own runs, for the start of another."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util

from segjax.errors import UserError
from segjax.runs.load import load_trained
from segjax.training.checkpoint_files import CHECKPOINTS

log = logging.getLogger("segjax")

RUN = "segjax/run"
"""The name of this source in `config.initialization`: `input` is the run's folder, or that
of one of its checkpoints, as `runs/a/checkpoints/200`."""


def weights_of_run(
    path: Path, skip: Sequence[str], target: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Takes from a run the parameters that a network has by the same names.

    This is how FCN is trained in stages: the network with one more skip takes over
    all parameters of the one before, and initialises those that are new.

    Args:
      path: folder of the run, whose newest checkpoint counts, or of one checkpoint.
      skip: modules or parameters of it that are left out.
      target: shapes of the network's collections.

    Returns:
      Collections like `target`, those leaves that the run has; and where they come
      from, JSON.

    Raises:
      UserError: if there is no such run, or it has parameters that the network lacks.
    """
    is_one = path.parent.name == CHECKPOINTS and path.name.isdecimal()
    run, step = (path.parent.parent, int(path.name)) if is_one else (path, None)
    try:
        trained = load_trained(run, step=step).single("A run as initialization")
    except UserError as error:
        message = str(error).replace(f"--workdir={run}", str(run))
        raise UserError(f"config.initialization.input: {message}") from error
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
    homeless = [
        _described(name, leaf, places.get(collection, {}))
        for collection, leaves in theirs.items()
        for name, leaf in leaves.items()
        if _shape(places.get(collection, {}).get(name)) != _shape(leaf)
    ]
    if homeless:
        raise UserError(
            f"config.initialization.input is {path}, whose network has what "
            f"config.model has no place for: {', '.join(homeless)}. Leave it out with "
            "config.initialization.skip, or choose the run of a network that is a part "
            "of this one."
        )
    random = [name for name in places["params"] if name not in theirs["params"]]
    log.info("Weights    %d parameters from %s", len(theirs["params"]), path)
    log.info("           random: %s", ", ".join(random) or "nothing")
    kept = {
        collection: traverse_util.unflatten_dict(jax.device_get(leaves), sep="/")
        for collection, leaves in theirs.items()
    }
    about = {
        "source": RUN,
        "input": str(path),
        "sha256": trained.parameters_sha256,
    }
    return kept, about


def _shape(leaf: Any) -> tuple[int, ...] | None:
    return None if leaf is None else tuple(leaf.shape)


def _described(name: str, leaf: Any, places: Mapping[str, Any]) -> str:
    text = f"{name} {_shape(leaf)}"
    return f"{text}, here {_shape(places[name])}" if name in places else text
