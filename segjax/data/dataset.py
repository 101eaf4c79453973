"""A data set as the rest of segjax sees it: splits of records, and what labels mean."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from segjax.data.files.plane import Window
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.types import Record

KEPT_BYTES = 1 << 28
"""Of decoded training images and labels, as many stay in the memory of a process."""


@dataclass(frozen=True)
class Dataset:
    """Records by split, with the meaning of their labels.

    A record is a mapping with `image` `[H, W, C]` uint8 or uint16, `label` `[H, W]`
    uint8 (class ids, `IGNORE_LABEL` where a pixel does not count) and `name`. A test
    split whose labels nobody published has no `label`. Arrays may be read-only. Records of
    objects hold boxes and masks instead of a label (`segjax.data.instance.records`).

    Attributes:
      name: key in `DATASETS`.
      label_spec: names and colours of the classes.
      channels: channels of every image, C.
      splits: records of "train", "validation" and, where there is one, "test".
      instances: what the objects are, where records hold objects; else None.
      groups: by split, the name of each record's group, such as its stack, where they are
        known: records of one group look alike, so folds keep them together.
      kinds: by split, the kind of each record, where kinds that are rare are seen more often
        (`segjax.data.semantic.batches.shares_of`); else None.
      pixel_size: height and width of a pixel of the training images, micrometres, their
        median; None where they state none.
      image_hashes: by split, the hash of each record's image (`hash_of_image`), where they are
        known without reading it.
      pool: all records that folds divide, in one order for every fold; None without folds.
    """

    name: str
    label_spec: LabelSpec
    channels: int
    splits: Mapping[str, Sequence[Record]]
    instances: InstanceSpec | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    kinds: Mapping[str, Sequence[str]] | None = None
    pixel_size: tuple[float, float] | None = None
    image_hashes: Mapping[str, Sequence[str]] | None = None
    pool: Sequence[Record] | None = None

    def kinds_of(self, split: str) -> Sequence[str]:
        """The kind of each record of a split; none where kinds make no difference."""
        return () if self.kinds is None else self.kinds[split]


def hash_of_image(image: np.ndarray) -> str:
    """Hashes the pixels of an image, by which it is recognised elsewhere.

    Example:
      >>> hash_of_image(np.zeros((2, 2, 1), np.uint8))
      'ace0fe76273faf9c'
    """
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).view(np.uint8).data)
    return digest.hexdigest()[:16]


class LazyRecords(Sequence[Record]):
    """Records that are read when they are asked for; a slice reads none of them.

    Example:
      >>> squares = LazyRecords(lambda i: {"name": str(i * i)}, range(4))
      >>> squares[2:][-1]
      {'name': '9'}
    """

    def __init__(self, read: Callable[[int], Record], places: range) -> None:
        """Takes what reads a record, and the places of these records for it."""
        self._read, self._places = read, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return LazyRecords(self._read, self._places[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._read(self._places[index])


@dataclass(frozen=True)
class LazyPage:
    """An image or label of which windows can be read: `page[rows, columns]`, two slices.

    `np.asarray` reads it whole.

    Attributes:
      shape: height and width.
      read: reads a window, or all where it is None.
    """

    shape: tuple[int, int]
    read: Callable[[Window | None], np.ndarray]

    def __getitem__(self, window: Window) -> np.ndarray:
        return self.read(window)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(None), dtype)


class LazyRecord(Mapping[str, Any]):
    """A record whose large pages are read when they are asked for, whole, and then kept.

    Attributes:
      parts: the same, where a page of which nobody asked for the whole is a `LazyPage`.

    Example:
      >>> page = LazyPage((2, 3), lambda window: np.eye(2, 3)[window or ...])
      >>> record = LazyRecord({"name": "a", "label": page})
      >>> record.parts["label"][:1, :2].tolist()
      [[1.0, 0.0]]
      >>> record["label"].shape
      (2, 3)
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        """Takes what the record holds, pages as `LazyPage`."""
        self.parts = dict(parts)

    def __getitem__(self, key: str) -> Any:
        value = self.parts[key]
        if isinstance(value, LazyPage):
            value = self.parts[key] = value.read(None)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def parts_of(record: Record) -> Mapping[str, Any]:
    """Returns a record whose `image` and `label` need only be sliced, not read whole."""
    return record.parts if isinstance(record, LazyRecord) else record


class KeptRecords(LazyRecords):
    """Records that stay in memory once they were read, the first ones up to a limit.

    What is read by windows (`LazyPage`) is not kept. May be read from several threads.

    Example:
      >>> def read(i):
      ...     print("reads", i)
      ...     return {"image": np.zeros((2, 2, 1), np.uint8)}
      >>> records = KeptRecords(LazyRecords(read, range(2)), limit=4)
      >>> for i in (0, 0, 1, 1):
      ...     _ = records[i]
      reads 0
      reads 1
      reads 1
    """

    def __init__(self, records: Sequence[Record], limit: int = KEPT_BYTES) -> None:
        """Takes the records, and how many bytes of arrays may be kept."""
        super().__init__(self._kept_or_read, range(len(records)))
        self._records, self._left = records, limit
        self._kept: dict[int, Record] = {}
        self._lock = threading.Lock()

    def _kept_or_read(self, index: int) -> Record:
        if index in self._kept:
            return self._kept[index]
        record = self._records[index]
        values = parts_of(record).values()
        size = sum(x.nbytes for x in values if isinstance(x, np.ndarray))
        if not any(isinstance(x, LazyPage) for x in values):
            with self._lock:
                if index not in self._kept and size <= self._left:
                    self._left -= size
                    self._kept[index] = record
        return record


def together(*parts: Sequence[Record]) -> Sequence[Record]:
    """The records of several sequences as one, none of which is read.

    Example:
      >>> len(together([{"name": "a"}], [{"name": "b"}, {"name": "c"}]))
      3
    """
    places = [(part, i) for part in parts for i in range(len(part))]

    def read(place: int) -> Record:
        part, i = places[place]
        return part[i]

    return LazyRecords(read, range(len(places)))
