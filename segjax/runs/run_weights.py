"""Weights of one of our own runs, for the start of another."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import ml_collections

from segjax.errors import UserError
from segjax.runs.load import TrainedModel, load_trained
from segjax.runs.model_file import config_of
from segjax.runs.placed_weights import FoundWeights, flattened
from segjax.training.about import LICENCE, TRAIN_IMAGES
from segjax.training.checkpoints.checkpoint_files import CHECKPOINTS
from segjax.training.loop import INITIALIZATION

RUN = "segjax/run"
"""The name of this source in `config.initialization`: `input` is the run's folder, or that
of one of its checkpoints, as `runs/a/checkpoints/200`, or a model file."""


def weights_of_run(
    path: Path, skip: Sequence[str], allow_code: Collection[str] = ()
) -> FoundWeights:
    """Takes the parameters of a run.

    This is how FCN is trained in stages: the network with one more skip takes over
    all parameters of the one before, and initialises those that are new.

    Args:
      path: folder of the run, whose newest checkpoint counts, or of one checkpoint; or a
        model file.
      skip: modules or parameters of it that are left out.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      The weights, by the names that they have there.

    Raises:
      UserError: if there is no such run.
    """
    trained = _load(path, allow_code)
    leaves = {
        collection: {
            name: leaf
            for name, leaf in theirs.items()
            if not any(f"{name}/".startswith(f"{part}/") for part in skip)
        }
        for collection, theirs in flattened(trained.variables).items()
    }
    about = {
        "source": RUN,
        "input": str(path),
        "sha256": trained.parameters_sha256,
        TRAIN_IMAGES: trained.about.get(TRAIN_IMAGES, []),
    }
    if licence := trained.about.get(INITIALIZATION, {}).get(LICENCE):
        about[LICENCE] = licence
    return FoundWeights(
        leaves,
        trained.task.config.model.num_classes,
        tuple(trained.label_spec.names),
        trained.channels,
        about,
    )


def config_of_run(path: Path) -> ml_collections.ConfigDict:
    """Reads the config of what `weights_of_run` takes the parameters of.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    run, _ = _run_and_step(path)
    try:
        return config_of(run)
    except UserError as error:
        raise UserError(f"config.initialization.input: {error}") from error


def _run_and_step(path: Path) -> tuple[Path, int | None]:
    is_one = path.parent.name == CHECKPOINTS and path.name.isdecimal()
    return (path.parent.parent, int(path.name)) if is_one else (path, None)


def _load(path: Path, allow_code: Collection[str]) -> TrainedModel:
    run, step = _run_and_step(path)
    try:
        return load_trained(run, step=step, allow_code=allow_code).single(
            "A network to begin with"
        )
    except UserError as error:
        message = str(error).replace(f"--workdir={run}", str(run))
        raise UserError(f"config.initialization.input: {message}") from error
