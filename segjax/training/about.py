"""The description in a checkpoint: the config, and the data that it was trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data import UNLABELED, is_synthetic
from segjax.data.dataset import Dataset, hash_of_image, parts_of
from segjax.data.normalization import max_intensity_of
from segjax.errors import UserError
from segjax.types import Record

LEARNED = "learned"
"""The key for what a task learned of its training split (`TrainingTask.learn`)."""

TRAIN_IMAGES = "train_images"
"""The key for the hashes of the training images (`image_hashes`)."""

LICENCE = "licence"
"""The key, among facts of the weights that a run begins with, for what binds their users."""

KEPT = (LEARNED, TRAIN_IMAGES)
"""What a resumed run does not count again."""

MOST_HASHES = 1000
"""Larger splits have no hashes: they would fill a checkpoint, and take long to count."""

IMAGE_DTYPES = "image_dtypes"
"""The key for the types of the training images as they are stored, such as ["uint8"]."""

SAMPLED_IMAGES = 32
"""Number of training images, evenly spread, that show the types and the range of them all."""


def about_run(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
    """The description that is kept in a checkpoint; JSON.

    Predicting needs no data set but this. `records` reveals changed data: of each split
    how many records there are, and a hash of three of them. `max_intensity` is for the
    CRF, see `TrainedModel`; `image_dtypes` is for programs.
    """
    dtypes, max_intensity = _stored_values(dataset)
    about = {
        "config": json.loads(config_lib.to_json(config)),
        "channels": dataset.channels,
        "label_spec": dataclasses.asdict(dataset.label_spec),
        "instances": (
            None if dataset.instances is None else dataclasses.asdict(dataset.instances)
        ),
        "max_intensity": max_intensity,
        IMAGE_DTYPES: dtypes,
        "pixel_size": dataset.pixel_size,
        "records": {
            split: {"count": len(records), "sha256": _records_sha256(records)}
            for split, records in dataset.splits.items()
        },
    }
    return json.loads(json.dumps(about))


def image_hashes(dataset: Dataset, split: str) -> list[str]:
    """Hashes the images of a split, so that they are recognised elsewhere.

    Args:
      dataset: the data. Where it does not know the hashes of its images, all images of the
        split are read.
      split: its name.

    Returns:
      A hash of the pixels of each, sorted. Empty where there are more than `MOST_HASHES`, or
      where images are read by windows and their hashes are not known.

    Example:
      >>> from segjax.data.label_spec import LabelSpec
      >>> records = [{"image": np.zeros((2, 2, 1), np.uint8)}]
      >>> spec = LabelSpec(("dark", "light"), ((0, 0, 0), (9, 9, 9)))
      >>> image_hashes(Dataset("mine", spec, 1, {"train": records}), "train")
      ['ace0fe76273faf9c']
    """
    records = dataset.splits[split]
    if len(records) > MOST_HASHES:
        return []
    if dataset.image_hashes is not None and split in dataset.image_hashes:
        return sorted(dataset.image_hashes[split])
    hashes = []
    for record in records:
        if not isinstance(image := parts_of(record)["image"], np.ndarray):
            return []
        hashes.append(hash_of_image(image))
    return sorted(hashes)


def train_images(
    dataset: Dataset, initialization: dict[str, Any]
) -> dict[str, list[str]]:
    """Hashes the images that a network has learned, or will.

    Args:
      dataset: the data of the run.
      initialization: facts of the weights that it begins with, whose images count, too;
        they are taken out of there.

    Returns:
      The hashes under their key; nothing where a synthetic data set is all.
    """
    known = set(initialization.pop(TRAIN_IMAGES, ()))
    if not is_synthetic(dataset.name):
        known |= set(image_hashes(dataset, "train"))
    elif not known:
        return {}
    return {TRAIN_IMAGES: sorted(known)}


def check_data(
    saved: Mapping[str, Any], now: Mapping[str, Any], splits: Iterable[str]
) -> None:
    """Checks that a run continues with the data that it began with.

    Args:
      saved: the description in the checkpoint.
      now: the description that a new checkpoint would get.
      splits: those that matter to the run.

    Raises:
      UserError: naming what has changed.
    """
    changes = [
        f"{key} was {saved[key]}, now {now[key]}"
        for key in ("channels", "label_spec")
        if saved[key] != now[key]
    ]
    known = {UNLABELED} & now["records"].keys()
    for split in dict.fromkeys((*splits, *known)):
        before, after = (
            saved.get("records", now["records"])[split],
            now["records"][split],
        )
        if before["count"] != after["count"]:
            changes.append(
                f"{split} had {before['count']} images, now {after['count']}"
            )
        elif before != after:
            changes.append(f"{split} has other images, labels or names")
    if changes:
        raise UserError(
            f"The data have changed since this run began: {'; '.join(changes)}. Go on "
            "with the original data, or train in another --workdir."
        )


def _stored_values(dataset: Dataset) -> tuple[list[str], int | None]:
    """The types of training images, and the range of those of 16 bits for `TrainedModel`."""
    records = dataset.splits.get("train", ())
    places = np.unique(np.linspace(0, len(records) - 1, SAMPLED_IMAGES).round())
    dtypes: set[str] = set()
    largest = 0
    for i in places if len(records) else ():
        record = records[int(i)]
        dtypes.add(str(parts_of(record)["image"][:1, :1].dtype))
        if dtypes == {"uint16"} and dataset.instances is None:
            largest = max(largest, max_intensity_of(record["image"]))
    return sorted(dtypes), largest if largest and dtypes == {"uint16"} else None


def _records_sha256(records: Sequence[Record]) -> str:
    """Hashes the first, the middle and the last record: name, image and label."""
    digest = hashlib.sha256()
    for i in sorted({0, len(records) // 2, len(records) - 1} if len(records) else ()):
        record = records[i]
        digest.update(record["name"].encode() + b"\n")
        for key in ("image", "label", "boxes", "classes"):
            if key in record:
                array = np.ascontiguousarray(record[key])
                digest.update(f"{key} {array.shape} {array.dtype}\n".encode())
                digest.update(array.view(np.uint8).data)
    return digest.hexdigest()
