"""Pictures of a finished run with objects: what is there beside what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from segjax.data.dataset import Dataset
from segjax.output.folder import Outputs
from segjax.tasks.instance.masks import instance_masks
from segjax.types import Record
from segjax.viz.instances import plot_instances

LEAST_SCORE = 0.5
"""Objects of a lower score are not plotted."""

SIDE = 256
"""Pictures are magnified by whole factors until their side is at least this."""


def write_instances(
    outputs: Outputs,
    examples: Mapping[int, str],
    found: Iterable[tuple[int, Mapping[str, np.ndarray]]],
    records: Sequence[Record],
    dataset: Dataset,
) -> None:
    """Plots objects beside those that were found.

    Args:
      outputs: where to.
      examples: places of the records in their split, and the names of their pictures.
      found: what was found in each record, by its place in `records`.
      records: of those places, in that order.
      dataset: names the classes and joints.
    """
    names = list(examples.values())
    for i, objects in found:
        picture = side_by_side(records[i], objects, dataset)
        with outputs.file(names[i]) as file:
            picture.save(file, format="PNG")


def side_by_side(
    record: Record, found: Mapping[str, np.ndarray], dataset: Dataset
) -> Image.Image:
    """Plots the objects of a record, and beside them those that were found.

    Args:
      record: with its objects; those of crowds are left out.
      found: as from `instance_evaluate.to_image_coordinates`.
      dataset: names the classes and joints.

    Returns:
      The picture.
    """
    truth, answer = plot_both(record, found, dataset)
    both = Image.new("RGB", (2 * truth.width + 8, truth.height), "white")
    both.paste(truth, (0, 0))
    both.paste(answer, (truth.width + 8, 0))
    return both


def plot_both(
    record: Record, found: Mapping[str, np.ndarray], dataset: Dataset
) -> tuple[Image.Image, Image.Image]:
    """Plots the objects of a record, and those that were found, as `side_by_side` does."""
    names = dataset.label_spec.names
    spec = dataset.instances
    bones = spec.keypoints.skeleton if spec and spec.keypoints else ()
    zoom = max(1, -(-SIDE // max(record["image"].shape[:2])))
    real = ~np.asarray(record["crowd"], bool)
    points = record["keypoints"][real] if "keypoints" in record else None
    truth = plot_instances(
        record["image"],
        record["boxes"][real],
        record["classes"][real],
        names,
        masks=instance_masks(record),
        keypoints=points,
        skeleton=bones,
        zoom=zoom,
    )
    good = found["scores"] >= LEAST_SCORE
    kept = {name: values[good] for name, values in found.items()}
    answer = plot_instances(
        record["image"],
        kept["boxes"],
        kept["classes"],
        names,
        scores=kept["scores"],
        masks=kept.get("masks"),
        keypoints=kept.get("keypoints"),
        skeleton=bones,
        zoom=zoom,
    )
    return truth, answer
