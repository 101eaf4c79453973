"""Model files: one file that holds a trained network and everything needed to use it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util

import segjax
from segjax import config as config_lib
from segjax.errors import UserError, shown, suggestion
from segjax.pretrained import archive
from segjax.pretrained.files import from_safetensors, to_safetensors
from segjax.pretrained.shipped import shipped_models
from segjax.tasks.table import make_task
from segjax.text_files import parse_json
from segjax.training.about import LEARNED, TRAIN_IMAGES
from segjax.training.divergence import not_finite
from segjax.training.run_files.workdir import CONFIG_FILE, fold_folder, read_config
from segjax.training.state import parameters_sha256, without_optimizer
from segjax.training.task import Task
from segjax.types import is_count, is_integer

log = logging.getLogger("segjax")

FORMAT, VERSION = "segjax model", 1
MOST_CHANNELS = 4096
"""Of the images of a model: far more than any have."""


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """The content of a model file, checked.

    Attributes:
      task: the experiment.
      variables: collections of the network, host arrays.
      about: JSON, as beside a checkpoint (`segjax.training.about.about_run`).
    """

    task: Task
    variables: dict[str, Any]
    about: dict[str, Any]


def find_model_file(run: str | Path) -> Path | None:
    """Finds the model file that a word of the user means.

    Args:
      run: a model file, the name of a model that comes with segjax, or the folder of a run.

    Returns:
      The file; None where it is the folder of a run.

    Raises:
      UserError: there is nothing of that name.
    """
    path, shipped = Path(run), shipped_models()
    is_run = any((x / CONFIG_FILE).is_file() for x in (path, fold_folder(path, 0)))
    if str(run) in shipped and (is_run or path.is_file()):
        log.info(
            "%s is what lies in this folder, not the model of that name that comes with "
            "segjax: rename it for that.",
            path,
        )
    if path.is_file():
        return path
    if is_run:
        return None
    if str(run) in shipped:
        return shipped[str(run)]
    is_name = len(path.parts) == 1 and not path.exists()
    if is_name or path.suffix == archive.SUFFIX:
        raise UserError(
            f"There is no run and no model file {path}, and no model of that name comes with "
            f"segjax.{suggestion(str(run), shipped)}"
        )
    return None


def shipped_parameters() -> dict[str, str]:
    """The digests of the parameters of the models that come with segjax, by name."""
    return {
        name: _about(archive.read_archive(file)[archive.MODEL], file)[
            "parameters_sha256"
        ]
        for name, file in shipped_models().items()
    }


def config_of(run: str | Path) -> ml_collections.ConfigDict:
    """Reads the config of a run or of a model file.

    Raises:
      UserError: there is none, or it is damaged.
    """
    file = find_model_file(run)
    if file is None:
        try:
            return read_config(Path(run))
        except UserError as error:  # which speaks of another folder than --workdir
            message = str(error).replace(f"--workdir={run}", str(run))
            raise UserError(message) from error
    return _config(archive.read_archive(file)[archive.CONFIG], file)


def write_model_file(
    file: IO[bytes],
    config: ml_collections.ConfigDict,
    variables: Mapping[str, Any],
    about: Mapping[str, Any],
    card: str,
) -> None:
    """Writes a model file.

    Args:
      file: to be written, from its beginning.
      config: the experiment.
      variables: collections of the network.
      about: JSON, as beside a checkpoint.
      card: Markdown for people.

    Raises:
      UserError: a part is too large for one file.
    """
    arrays = traverse_util.flatten_dict(jax.device_get(dict(variables)), sep="/")
    model = {"format": FORMAT, "version": VERSION, "segjax": segjax.__version__}
    members = {
        archive.CARD: card.encode(),
        archive.CONFIG: (config_lib.to_json(config) + "\n").encode(),
        archive.MODEL: _json({**model, "about": about}),
        archive.WEIGHTS: to_safetensors(arrays),
    }
    try:
        archive.write_archive(file, members)
    except ValueError as error:
        raise UserError(f"The model does not fit into one file: {error}.") from error


def read_model_file(path: Path, allow_code: Collection[str] = ()) -> ModelFile:
    """Reads a model file; nothing in it is run, and nothing is written.

    Args:
      path: the file.
      allow_code: packages whose code may be imported where its config names it.

    Returns:
      Its content; the arrays are those that the config's network has, and finite.

    Raises:
      UserError: it cannot be read, was cut or changed, or contradicts itself.
    """
    members = archive.read_archive(path)
    config = _config(members[archive.CONFIG], path)
    about = _about(members[archive.MODEL], path)
    arrays = from_safetensors(members[archive.WEIGHTS], f"{archive.WEIGHTS} of {path}")
    try:
        task = make_task(config_lib.with_leave(config, allow_code), training=False)
    except UserError as error:
        raise UserError(f"{archive.CONFIG} of {path}: {error}") from error
    variables = _fitted(arrays, _abstract(task, about["channels"], path), path)
    if wrong := next(not_finite(variables), None):
        raise UserError(
            f"{path} has values that are not finite, in {wrong}: nothing can be computed with "
            "them. Export another checkpoint of the run."
        )
    if parameters_sha256(variables["params"]) != about.get("parameters_sha256"):
        raise _contradiction(path, "its parameters are not those that it names")
    return ModelFile(task, variables, about)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _config(raw: bytes, path: Path) -> ml_collections.ConfigDict:
    where = f"{archive.CONFIG} of {path}"
    try:
        config = config_lib.from_dict(parse_json(raw, where))
        config_lib.check(config)
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return config


def _about(raw: bytes, path: Path) -> dict[str, Any]:
    """Reads what a model says of itself, and checks what has to be there."""
    model = parse_json(raw, f"{archive.MODEL} of {path}")
    if not isinstance(model, dict) or model.get("format") != FORMAT:
        raise _contradiction(path, f"its {archive.MODEL} is not that of a model")
    if model.get("version") != VERSION:
        raise UserError(
            f"{path} is a model file of version {shown(model.get('version'))}, and this "
            f"segjax reads version {VERSION}. Use the segjax that wrote it, "
            f"{shown(model.get('segjax'))}, or a newer one."
        )
    about = model.get("about")
    if not isinstance(about, dict):
        raise _contradiction(path, f"its {archive.MODEL} says nothing about the model")
    channels, step = about.get("channels"), about.get("step")
    if not is_count(channels) or channels > MOST_CHANNELS:
        raise _contradiction(path, f"it has {shown(channels)} channels")
    if not is_integer(step) or not isinstance(about.get("label_spec"), dict):
        raise _contradiction(path, "its step or its classes are missing")
    images = about.get("images", {})
    if not isinstance(images, dict) or not all(map(is_integer, images.values())):
        raise _contradiction(path, f"it counts {shown(images)} images")
    if not isinstance(hashes := about.get(TRAIN_IMAGES, []), list):
        raise _contradiction(path, f"it names {shown(hashes)} as its training images")
    learned = about.get(LEARNED, {})
    if not isinstance(learned, dict) or not all(
        isinstance(x, list) and len(x) == channels and all(map(_is_finite, x))
        for x in learned.values()
    ):
        raise _contradiction(path, f"it learned {shown(learned)} of its images")
    return about


def _is_finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < math.inf


def _abstract(task: Task, channels: int, path: Path) -> Mapping[str, Any]:
    """Shapes of the collections of a network; no array is made."""
    try:
        state = jax.eval_shape(lambda: without_optimizer(task.init_variables(channels)))
    except (TypeError, ValueError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise _contradiction(path, f"its network cannot be built: {reason}") from error
    return state.variables


def _fitted(
    arrays: Mapping[str, np.ndarray], abstract: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Puts arrays into the places of a network, each of which must be filled."""
    places = traverse_util.flatten_dict(dict(abstract), sep="/")
    for name in sorted(places.keys() | arrays.keys()):
        there, here = _kind(arrays.get(name)), _kind(places.get(name))
        if there != here:
            raise _contradiction(
                path,
                f"its {name} is {there or 'missing'}, and by its config "
                f"{here or 'has no place'}",
            )
    fitted = traverse_util.unflatten_dict(dict(arrays), sep="/")
    return {collection: fitted.get(collection, {}) for collection in abstract}


def _kind(x: Any) -> str:
    return "" if x is None else f"{x.dtype} {list(x.shape)}"


def _contradiction(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} is not a model that can be used: {what}. Ask for the original file, or export "
        "the run again."
    )
