"""Networks that others have trained: a run's folder made from their weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from segjax import config as config_lib
from segjax.data.builders import voc
from segjax.data.label_spec import LabelSpec
from segjax.data.palette import voc_colors
from segjax.pretrained import sources
from segjax.pretrained.files import file_sha256, read_state
from segjax.train import checkpoint
from segjax.train.initialization import GROUP
from segjax.train.state import TrainState, parameters_sha256
from segjax.train.task import SemanticTask
from segjax.train.workdir import lock, make_workdir, settle_config
from segjax.types import UserError

CHANNELS = 3
DETECTOR = "mask_rcnn"
"""Objects have no experiment that the weights alone would tell."""

AUGMENT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("random_scale", {}),
    ("flip", {"vertical": False}),
    ("random_crop", {}),
)


def import_weights(
    source: str, path: str | Path, workdir: str | Path
) -> dict[str, Any]:
    """Makes a run's folder, at step 0, of a segmentation that others have trained.

    Evaluation and prediction take it as any other. Its config has VOC's class names
    where there are 21 classes, and is made to train on: crops, mirroring, optimizer,
    schedule and weight of the auxiliary loss are like those of torchvision's scripts
    (github.com/pytorch/vision, references/segmentation), batch and steps are not.

    Args:
      source: a name of `segjax.pretrained.SOURCES` that is a segmentation.
      path: the file of weights.
      workdir: the folder, which must not hold a run.

    Returns:
      `step`, `parameters`, `parameters_sha256`, `model` and `sha256` of the file.

    Raises:
      UserError: if the file cannot be read or does not fit, or the folder holds a run;
        nothing was written then.
    """
    workdir = Path(workdir)
    entry = sources.lookup(source)
    if entry.is_backbone or entry.group["name"] == DETECTOR:
        does = "classifies whole images" if entry.is_backbone else "finds objects"
        raise UserError(
            f"{source} {does}, so there is no segmentation to import: "
            "name the file as initialization of a config, or call "
            "segjax.pretrained.load."
        )
    if checkpoint.steps_on_disk(workdir):
        raise UserError(
            f"--workdir={workdir} holds a run already: choose another folder."
        )
    state_dict = read_state(path)
    _, variables = sources.load(source, state_dict)
    tensors = sources.tensors(entry, state_dict, (), what=source)
    group = entry.group_of(tensors)
    del state_dict, tensors
    spec = label_spec(group["num_classes"])
    config = config_of(group, spec, entry.normalization)
    task = SemanticTask(config)
    state = _state(task, variables)
    sha256 = file_sha256(path)
    about = {
        "config": json.loads(config_lib.to_json(config)),
        "channels": CHANNELS,
        "label_spec": dataclasses.asdict(spec),
        GROUP: {"source": source, "input": str(path), "sha256": sha256},
    }
    make_workdir(workdir)
    with lock(workdir):
        settle_config(workdir, config)
        with checkpoint.Checkpoints(workdir) as checkpoints:
            checkpoints.save(state, json.loads(json.dumps(about)))
            checkpoints.wait()
    return {
        "step": 0,
        "model": group["name"],
        "num_classes": group["num_classes"],
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "parameters_sha256": parameters_sha256(state.params),
        "sha256": sha256,
    }


def config_of(
    group: dict[str, Any], spec: LabelSpec, normalization: str
) -> ml_collections.ConfigDict:
    """The experiment that an imported network stands for.

    Args:
      group: its group `model`.
      spec: its classes.
      normalization: of its images.

    Returns:
      The config.
    """
    data: dict[str, Any] = {"name": "voc"}
    if spec != voc.LABEL_SPEC:
        classes = tuple(zip(spec.names, spec.colors, strict=True))
        data = {"name": "folder", "classes": classes, "channels": CHANNELS}
    config = {
        "seed": 0,
        "num_steps": 30_000,
        "batch_size": 8,
        "log_every": 100,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": data,
        "pipeline": {
            "input_size": (480, 480),
            "normalization": normalization,
            "augment": AUGMENT,
        },
        "model": group,
        "loss": {"name": "cross_entropy", "aux_weight": 0.5},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "poly", "peak": 0.01},
        "evaluation": {"split": "validation"},
    }
    return config_lib.from_dict(json.loads(json.dumps(config)))


def label_spec(num_classes: int) -> LabelSpec:
    """The classes of PASCAL VOC where there are 21, numbered ones otherwise.

    Example:
      >>> label_spec(21).names[15], label_spec(2).names
      ('person', ('class0', 'class1'))
    """
    if num_classes == voc.LABEL_SPEC.num_classes:
        return voc.LABEL_SPEC
    names = tuple(f"class{i}" for i in range(num_classes))
    return LabelSpec(names, voc_colors(num_classes))


def _state(task: SemanticTask, variables: dict[str, Any]) -> TrainState:
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(task.optimizer.init)(params),
    )
