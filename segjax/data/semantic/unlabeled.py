"""A second stream of training batches: images that nobody has labelled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.data import UNLABELED
from segjax.data.dataset import LazyRecord, LazyRecords, parts_of
from segjax.data.datasets.folder_check import check_pairs, remembered
from segjax.data.datasets.folder_records import read_record
from segjax.data.datasets.label_meanings import meaning_of, spec_of
from segjax.data.datasets.pairing import Page, Pair, without_labels
from segjax.data.files.channels import Channels
from segjax.data.files.listing import list_images, name_of
from segjax.data.semantic.batches import Batches
from segjax.types import Record

SEED = 2**32
"""Added to the seed of the second stream: seeds of configs are smaller."""

ONLY_LABELLED = ("border_weight", "foreground_fraction")
"""Arguments of `train_batches` that read labels."""

_ANY_CLASSES = (("background", (0, 0, 0)), ("foreground", (255, 255, 255)))


def image_folder(
    folder: str, *, channels: Channels, cache_dir: str | None
) -> Sequence[Record]:
    """The images of a folder and of those below it, without labels.

    Args:
      folder: the folder, or one file.
      channels: how many, or which, as those of the labelled images.
      cache_dir: where to remember which files were found good.

    Returns:
      A record of each image or page, with `image` and `name`.

    Raises:
      UserError: there are none, or one is damaged or has other channels.
    """
    root = Path(folder).expanduser()
    paths = list_images(root, nested=True)
    paths = paths if root.is_file() else without_labels(root, paths)
    pairs = [Pair(path, None, name_of(path, root)) for path in paths]
    meaning = meaning_of(spec_of(_ANY_CLASSES, None, ()), "classes", 1, ())
    with remembered(cache_dir, root, meaning, channels) as known:
        facts = check_pairs(pairs, meaning, channels, known)
    counts = [(pair, facts[pair.image].pages) for pair in pairs]
    pages = [Page(pair, i, count) for pair, count in counts for i in range(count)]
    read = functools.partial(read_record, pages, meaning, channels)
    return LazyRecords(read, range(len(pages)))


def images_only(records: Sequence[Record]) -> Sequence[Record]:
    """The records without their labels, of which none is read.

    Example:
      >>> images_only([{"image": 1, "label": 2, "name": "a"}])[0]["name"]
      'a'
    """

    def read(place: int) -> Record:
        parts = parts_of(records[place])
        return LazyRecord({key: parts[key] for key in ("image", "name")})

    return LazyRecords(read, range(len(records)))


def with_empty_labels(records: Sequence[Record]) -> Sequence[Record]:
    """The records with a label of zeros, which takes no memory.

    `segjax.data.semantic.batches.train_batches` makes batches of them, of which the image is
    used alone.

    Example:
      >>> records = [{"image": np.ones((2, 3, 1), np.uint8), "name": "a"}]
      >>> with_empty_labels(records)[0]["label"].tolist()
      [[0, 0, 0], [0, 0, 0]]
    """

    def read(place: int) -> Record:
        parts = parts_of(records[place])
        label = np.broadcast_to(np.uint8(0), parts["image"].shape[:2])
        return LazyRecord({**parts, "label": label})

    return LazyRecords(read, range(len(records)))


class PairedBatches(Batches):
    """Batches of labelled images that hold those of another stream, too.

    Example:
      >>> paired = PairedBatches(iter([{"label": 1}]), iter([{"image": 2, "label": 0}]))
      >>> next(paired)
      {'label': 1, 'unlabeled': 2}
    """

    def __init__(self, labelled: Batches, unlabeled: Batches) -> None:
        """Takes both streams, which begin at the same step."""
        self._streams = labelled, unlabeled

    def __next__(self) -> dict[str, np.ndarray]:
        batch, other = (next(stream) for stream in self._streams)
        return {**batch, UNLABELED: other["image"]}

    def close(self) -> None:
        """Stops the threads of both."""
        for stream in self._streams:
            stream.close()
