"""Experiments for networks that others have trained.

Weights come without an experiment. With one of these, a run's folder can be evaluated, used
for prediction, and trained further.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import ml_collections

from segjax import config as config_lib
from segjax.data.datasets import ade20k, cityscapes, voc
from segjax.data.datasets.coco.categories import RAW_CLASSES, coco_specs
from segjax.data.files.palette import voc_colors
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.models.mask_rcnn.attributes import RoIHeads
from segjax.pretrained.source import CHANNELS
from segjax.tasks.semantic.crf import CRF

DETECTOR = "mask_rcnn"

INPUT_SIZE = (480, 480)
"""Height and width of crops in torchvision's scripts."""

CITYSCAPES = cityscapes.SPECS["labelTrainIds"]
SPECS = {"voc": voc.LABEL_SPEC, "cityscapes": CITYSCAPES, "ade20k": ade20k.LABEL_SPEC}
"""The classes of data sets, which are told apart by their number."""

ALIKE = 0.9
"""Of the names of classes, so many make a data set: some spell a few of them otherwise."""

AUGMENT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("random_scale", {}),
    ("flip", {"vertical": False}),
    ("random_crop", {}),
)

SEGFORMER: dict[str, Any] = {
    "loss": {"name": "cross_entropy"},
    "optimizer": {
        "name": "adamw",
        "weight_decay": 0.01,
        "multipliers": tuple(
            (pattern, 10.0) for pattern in ("linear_*", "fuse/*", "norm/*", "logits/*")
        ),
    },
    "schedule": {
        "name": "poly",
        "learning_rate": 6e-5,
        "power": 1.0,
        "warmup_steps": 1_500,
    },
}
"""Training as in SegFormer's paper: the decoder learns ten times as fast as the encoder."""

BUCKETS = ((800, 1088), (800, 1333), (1088, 800), (1333, 800), (800, 800))
"""Of a shorter side of 800 pixels and a longer one of at most 1,333, as torchvision's."""


class Imported(NamedTuple):
    """An experiment that was made for weights.

    Attributes:
      config: the experiment.
      label_spec: names and colours of its classes.
      instances: the description of its objects, where it finds objects.
    """

    config: ml_collections.ConfigDict
    label_spec: LabelSpec
    instances: InstanceSpec | None = None


def experiment(
    group: dict[str, Any],
    normalization: str,
    input_size: tuple[int, int] | None = None,
    class_names: tuple[str, ...] = (),
) -> Imported:
    """Makes the experiment that belongs to imported weights.

    Args:
      group: its group `model`.
      normalization: of the images of a segmentation; a detector has its own.
      input_size: height and width of its crops in training; None for those of torchvision.
      class_names: of a segmentation, where they are known.

    Returns:
      The experiment.
    """
    if group["name"] == DETECTOR:
        return _detector(group)
    return _segmentation(group, normalization, input_size or INPUT_SIZE, class_names)


def _segmentation(
    group: dict[str, Any],
    normalization: str,
    input_size: tuple[int, int],
    class_names: tuple[str, ...],
) -> Imported:
    """Class names as `label_spec` has them, and training as in torchvision's scripts
    (github.com/pytorch/vision, references/segmentation), but for batch and steps; SegFormer as
    in its paper. One logit is read by a sigmoid. The CRF has the values of DeepLab v2.
    """
    is_binary = group["num_classes"] == 1
    spec = label_spec(2 if is_binary else group["num_classes"], class_names)
    known = [name for name, found in SPECS.items() if found == spec]
    classes = tuple(zip(spec.names, spec.colors, strict=True))
    data: dict[str, Any] = {"name": "folder", "classes": classes, "channels": CHANNELS}
    if known:
        data = {"name": known[0]}
    config = {
        "seed": 0,
        "num_steps": 30_000,
        "batch_size": 8,
        "log_every": 100,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": data,
        "pipeline": {
            "input_size": input_size,
            "normalization": normalization,
            "augment": AUGMENT,
        },
        "model": group,
        "loss": {"name": "cross_entropy", "aux_weight": 0.5},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "poly", "learning_rate": 0.01},
        "evaluation": {"split": "validation"},
        "crf": dataclasses.asdict(CRF()),
    }
    if is_binary:
        config |= {"head": "sigmoid", "loss": {"name": "binary_cross_entropy"}}
    if group["name"] == "segformer":
        config |= SEGFORMER
    return Imported(_config(config), spec)


def _detector(group: dict[str, Any]) -> Imported:
    """COCO's names where the number of classes is COCO's, and training as in torchvision's
    scripts (references/detection), with the batch and the steps of Detectron's "1x".
    """
    heads = RoIHeads(**group.get("roi_heads", {}))
    spec, objects = coco_specs(group["num_classes"], heads.keypoints)
    raw_ids = group["num_classes"] == RAW_CLASSES
    data: dict[str, Any] = {"name": "coco", "raw_ids": raw_ids, "skip_invalid": True}
    best = "mask_AP" if heads.masks else "box_AP"
    if objects.keypoints is not None:
        data = {
            "name": "coco",
            "train": "annotations/person_keypoints_train2017.json",
            "validation": "annotations/person_keypoints_val2017.json",
            "keypoints": True,
            "skip_invalid": True,
            "allow_unlisted": True,
        }
        best = "keypoint_AP"
    config = {
        "task": "instance",
        "seed": 0,
        "num_steps": 90_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 10_000,
        "checkpoint_every": 1_000,
        "data": data,
        "pipeline": {
            "buckets": BUCKETS,
            "resize": "fit",
            "max_objects": 100,
            "augment": (("flip", {}),),
        },
        "model": group,
        "loss": {"name": "mask_rcnn"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {
            "name": "multistep",
            "learning_rate": 0.02,
            "milestones": (60_000, 80_000),
            "warmup_steps": 500,
        },
        "evaluation": {"split": "validation", "best_metric": best, "batch_size": 1},
    }
    return Imported(_config(config), spec, objects)


def _config(values: dict[str, Any]) -> ml_collections.ConfigDict:
    return config_lib.from_dict(json.loads(json.dumps(values)))


def label_spec(num_classes: int, class_names: tuple[str, ...] = ()) -> LabelSpec:
    """The classes of PASCAL VOC where there are 21, of Cityscapes where there are 19, of ADE20K
    where there are 150, numbered ones otherwise.

    Args:
      num_classes: how many.
      class_names: their names, where they are known; a data set's classes are meant where
        nearly all names are its.

    Returns:
      Names and colours.

    Example:
      >>> label_spec(21).names[15], label_spec(2).names
      ('person', ('class0', 'class1'))
      >>> label_spec(2, ("cell", "border")).names
      ('cell', 'border')
    """
    names = names_of_classes(num_classes, class_names)
    known = [spec for spec in SPECS.values() if spec.names == names]
    return known[0] if known else LabelSpec(names, voc_colors(num_classes))


def names_of_classes(
    num_classes: int, class_names: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The names of the classes of weights, however many there are; see `label_spec`.

    Args:
      num_classes: how many.
      class_names: as of `label_spec`.

    Returns:
      The names.

    Example:
      >>> len(names_of_classes(300))
      300
    """
    given = len(class_names) == num_classes
    for spec in SPECS.values():
        if spec.num_classes == num_classes:
            alike = sum(a == b for a, b in zip(class_names, spec.names, strict=False))
            if not given or alike >= ALIKE * num_classes:
                return spec.names
    return class_names if given else tuple(f"class{i}" for i in range(num_classes))
