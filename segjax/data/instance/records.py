"""Records of objects: what they hold, how TFDS keeps them, how they are read.

A record of objects is a mapping with

- `image` uint8 `[H, W, C]`, `name` str, `image_id` int;
- `boxes` float32 `[N, 4]`, `(y0, x0, y1, x1)` in pixels, the end exclusive;
- `classes` int32 `[N]`, 1 to K - 1; `crowd` bool `[N]`, True for a region of many objects
  that are not told apart; `areas` float32 `[N]`, pixels, as the annotation says;
- `masks`, N run lengths (`segjax.rle.Rle`);
- `keypoints` float32 `[N, P, 3]` where there are any: `(y, x, visibility)`, pixels as in
  boxes (the centre of the first pixel is 0.5), 0 not labelled, 1 hidden, 2 visible.

N may be 0: an image without any object is accepted, and trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from segjax.data.dataset import LazyRecords
from segjax.data.datasets import prepare
from segjax.data.datasets.prepare import tfds
from segjax.rle import Rle, boxes_of, encode
from segjax.types import Record

_TENSORS: Mapping[str, tuple[tuple[int | None, ...], type]] = {
    "image": ((None, None, 3), np.uint8),
    "boxes": ((None, 4), np.float32),
    "classes": ((None,), np.int32),
    "crowd": ((None,), np.uint8),
    "areas": ((None,), np.float32),
    "mask_counts": ((None,), np.int32),
    "mask_lengths": ((None,), np.int32),
    "image_id": ((1,), np.int64),
}


@dataclass(frozen=True)
class Facts:
    """Facts about records that are known without reading them again.

    Attributes:
      sizes: `(height, width)` of each image, int64 `[R, 2]`.
      counts: objects of each, int64 `[R]`.
    """

    sizes: np.ndarray
    counts: np.ndarray


class FactualRecords(LazyRecords):
    """Records of objects that are read when they are asked for, and their facts.

    Attributes:
      facts: of these records, in their order.
    """

    def __init__(self, read: Callable[[int], Record], places: range, facts: Facts):
        """Takes what reads a record, the places of these records, and their facts."""
        super().__init__(read, places)
        self.facts = facts

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        facts = Facts(self.facts.sizes[index], self.facts.counts[index])
        return FactualRecords(self._read, self._places[index], facts)


def facts_of(records: Sequence[Record]) -> Facts:
    """Takes the facts that records bring along, or reads every record once."""
    if isinstance(records, FactualRecords):
        return records.facts
    rows = [(*r["image"].shape[:2], len(r.get("boxes", ()))) for r in records]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Facts(table[:, :2], table[:, 2])


def description(
    builder: tfds.core.DatasetBuilder, text: str, num_keypoints: int = 0
) -> tfds.core.DatasetInfo:
    """Describes stored records of objects in colour, kept in the order of writing."""
    tensors = dict(_TENSORS)
    if num_keypoints:
        tensors["keypoints"] = ((None, num_keypoints, 3), np.float32)
    features = {
        key: tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")
        for key, (shape, dtype) in tensors.items()
    }
    features["name"] = tfds.features.Text()
    return tfds.core.DatasetInfo(
        builder=builder,
        description=text,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
    )


def from_masks(
    image: np.ndarray,
    masks: np.ndarray | Sequence[Rle],
    classes: Sequence[int] | np.ndarray,
    *,
    name: str,
    image_id: int,
    keypoints: np.ndarray | None = None,
) -> dict[str, Any]:
    """Makes a record whose boxes and areas are those of its masks.

    Args:
      image: `[H, W, C]`.
      masks: bool `[N, H, W]`, or N run lengths.
      classes: of the objects `[N]`, from 1.
      name: of the image.
      image_id: its number.
      keypoints: `[N, P, 3]`, `(y, x, visibility)`, where there are any.

    Returns:
      The record; it holds no crowd.
    """
    rles = tuple(m if isinstance(m, Rle) else encode(m) for m in masks)
    record = {
        "image": image,
        "boxes": boxes_of(rles),
        "classes": np.asarray(classes, np.int32),
        "crowd": np.zeros(len(rles), bool),
        "areas": np.array([rle.area for rle in rles], np.float32),
        "masks": rles,
        "name": name,
        "image_id": image_id,
    }
    if keypoints is not None:
        record["keypoints"] = np.asarray(keypoints, np.float32)
    return record


def stored(record: Record) -> dict[str, Any]:
    """Turns a record into what TFDS writes."""
    out = {k: v for k, v in record.items() if k != "masks"}
    counts = [rle.counts for rle in record["masks"]]
    out["mask_counts"] = np.concatenate([np.zeros(0, np.int32), *counts]).astype("i4")
    out["mask_lengths"] = np.array([len(c) for c in counts], np.int32)
    out["crowd"] = record["crowd"].astype(np.uint8)
    out["image_id"] = np.array([record["image_id"]], np.int64)
    return out


def records(builder: Any, split: str) -> Sequence[Record]:
    """Returns a prepared split of objects, in the order in which it was written.

    Raises:
      UserError: as `segjax.data.datasets.prepare.records`.
    """
    return prepare.records(builder, split, _unpacked)


def _unpacked(stored: Record) -> Record:
    """Turns what `stored` made into a record again."""
    record = dict(stored)
    record["image_id"] = int(record["image_id"][0])
    record["crowd"] = record["crowd"].astype(bool)
    counts, lengths = record.pop("mask_counts"), record.pop("mask_lengths")
    height, width = record["image"].shape[:2]
    masks = _masks(counts.astype(np.int64), lengths.astype(np.int64), (height, width))
    if masks is None or len(masks) != len(record["boxes"]):
        raise ValueError("masks are not those of its objects, or of another size")
    record["masks"] = masks
    return record


def _masks(
    counts: np.ndarray, lengths: np.ndarray, size: tuple[int, int]
) -> tuple[Rle, ...] | None:
    """Cuts run lengths into masks of a size; None where they are not such masks."""
    ends = np.cumsum(lengths)
    if not len(lengths):
        return None if len(counts) else ()
    if lengths.min() < 1 or ends[-1] != len(counts) or counts.min() < 0:
        return None
    # Stored as 32 bits, counts have sums that 64 bits hold.
    if (np.add.reduceat(counts, ends - lengths) != size[0] * size[1]).any():
        return None
    return tuple(Rle(size, part) for part in np.split(counts, ends[:-1]))
