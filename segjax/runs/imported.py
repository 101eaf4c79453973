"""Networks that others have trained: a run's folder made from their weights."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, Literal

import jax
import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.pretrained import downloads, sources
from segjax.pretrained.files import read_state
from segjax.pretrained.source import CHANNELS, Source
from segjax.runs.file_weights import origin
from segjax.runs.imported_experiment import DETECTOR, experiment
from segjax.tasks.table import make_task
from segjax.training.about import IMAGE_DTYPES
from segjax.training.checkpoints import checkpoint, checkpoint_files
from segjax.training.loop import INITIALIZATION
from segjax.training.run_files.workdir import (
    CONFIG_FILE,
    check_workdir,
    lock,
    make_workdir,
)
from segjax.training.state import parameters_sha256
from segjax.training.step import state_of

log = logging.getLogger("segjax")


def import_weights(
    source: str,
    path: str | Path | None,
    workdir: str | Path,
    *,
    download: bool = False,
    input_size: tuple[int, int] | Literal["file"] | None = "file",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Makes a run's folder, at step 0, of a network that others have trained.

    Evaluation and prediction take it as any other; its config is that of
    `segjax.runs.imported_experiment`.

    Args:
      source: a name of `segjax.pretrained.SOURCES` that is a segmentation or a detector.
      path: the file of weights, or the folder that segmentation_models.pytorch or Hugging
        Face saves; None with `download`.
      workdir: the folder, which must not hold a run.
      download: whether the published file of the source is fetched instead.
      input_size: height and width to which a segmentation squeezes images in evaluation and
        prediction; None leaves them as they are, "file" takes what the weights were
        published for, where their file says so.
      overwrite: whether a `config.json` that lies there is replaced.

    Returns:
      `step`, `parameters`, `parameters_sha256`, `model` and `sha256` of the file.

    Raises:
      UserError: if the file cannot be fetched or read or does not fit, or the folder
        holds a run; nothing was written then.
    """
    workdir = Path(workdir)
    entry = sources.lookup(source)
    if entry.is_backbone:
        raise UserError(
            f"{source} classifies whole images, so there is nothing to predict with: "
            "name the file as initialization of a config, or call "
            "segjax.pretrained.load."
        )
    if (path is None) != download:
        raise UserError(
            f"The weights of {source} come from a file or from their published address: "
            "give --weights or --download."
        )
    _require_no_run(workdir)
    check_workdir(workdir)
    if path is None:
        path = downloads.download(source)
    entry, file = sources.opened(source, path)
    outputs = Outputs(
        workdir,
        [(CONFIG_FILE, source)],
        inputs=[file],
        flag="--workdir",
        overwrite=overwrite,
    )
    state_dict = sources.unwrapped(entry, read_state(file))
    tensors = sources.tensors(entry, state_dict, (), what=source)
    _, variables = sources.load_as(entry, source, state_dict)
    group = entry.group_of(tensors)
    del state_dict, tensors
    config, spec, objects = experiment(
        group, entry.normalization, entry.input_size, entry.class_names
    )
    _set_input_size(config, entry, input_size)
    optimizer = make_task(config).optimizer
    state = jax.jit(state_of, static_argnums=1)(variables, optimizer)
    initialization = origin(source, path, file)
    about = {
        "config": json.loads(config_lib.to_json(config)),
        "channels": CHANNELS,
        "label_spec": dataclasses.asdict(spec),
        "instances": None if objects is None else dataclasses.asdict(objects),
        IMAGE_DTYPES: ["uint8"],  # photographs
        INITIALIZATION: initialization,
    }
    make_workdir(workdir)
    with lock(workdir):
        _require_no_run(workdir)  # another import may have been faster
        outputs.make_folder()
        with outputs.file(CONFIG_FILE) as opened:
            opened.write((config_lib.to_json(config) + "\n").encode())
        with checkpoint.Checkpoints(workdir) as checkpoints:
            checkpoints.save(state, json.loads(json.dumps(about)))
            checkpoints.wait()
    log.info(
        "Predict with it: segjax predict --workdir=%s --input=FILES --output=FOLDER",
        workdir,
    )
    return {
        "step": 0,
        "model": group["name"],
        "num_classes": group["num_classes"],
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "parameters_sha256": parameters_sha256(state.params),
        "sha256": initialization["sha256"],
    }


def _set_input_size(
    config: ml_collections.ConfigDict,
    entry: Source,
    given: tuple[int, int] | Literal["file"] | None,
) -> None:
    """Sets the size to which images are squeezed, and says so."""
    size = entry.input_size if given == "file" else given
    if size is None:
        return
    if config.model.name == DETECTOR:
        raise UserError(
            "--input_size is for networks that label pixels; a detector resizes images "
            "by config.pipeline.buckets. Leave it out."
        )
    config.evaluation.input_size = size
    log.info(
        "Images are squeezed to %d x %d pixels for this network, and labels brought back; "
        "--input_size=0 leaves images as they are",
        *size,
    )


def _require_no_run(workdir: Path) -> None:
    if checkpoint_files.steps_on_disk(workdir):
        raise UserError(
            f"--workdir={workdir} holds a run already: choose another folder."
        )
