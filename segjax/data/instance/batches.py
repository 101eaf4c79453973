"""Batches of objects: each of one size, the same ones on every run.

The stream of `instance_batches` is a function of its arguments alone, as that of
`segjax.data.semantic.batches.train_batches`. All examples of a step lie in one bucket, so the
network is compiled once for each bucket. The buckets of steps are sampled in the order of
shuffled records, so that each comes as often as its records ask for; within a bucket the
records are reshuffled every time all were seen. With one bucket that is the order of
`train_batches`.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.data.augment.augmentations import Augmentations
from segjax.data.augment.views import whole
from segjax.data.instance.buckets import Bucket, bucket_of, check_buckets, fit_to_bucket
from segjax.data.instance.examples import InstanceExampleMaker, padded, read_image
from segjax.data.instance.records import facts_of
from segjax.data.semantic.batches import Batches, check_stream, endless, record_ids
from segjax.types import Record, is_count

log = logging.getLogger("segjax")


@dataclass(frozen=True)
class Schedule:
    """Which records a step holds, and in which bucket.

    Attributes:
      bucket_ids: bucket of each record, int `[R]`.
      seed: of the order.
      batch_size: examples of one step, over all processes.
    """

    bucket_ids: tuple[int, ...]
    seed: int
    batch_size: int

    def bucket(self, step: int) -> int:
        """Position of the bucket of a step."""
        epoch, place = divmod(step, len(self.bucket_ids))
        return int(self._turns(epoch)[place])

    def ids(self, step: int) -> np.ndarray:
        """Records of a step, over all processes, int32 `[batch_size]`."""
        epoch, place = divmod(step, len(self.bucket_ids))
        turns = self._turns(epoch)
        bucket = turns[place]
        members = self._members[int(bucket)]
        before = epoch * len(members) + int((turns[:place] == bucket).sum())
        found = record_ids(
            len(members), seed=self.seed, batch_size=self.batch_size, step=before
        )
        return members[found]

    @functools.cached_property
    def _members(self) -> dict[int, np.ndarray]:
        ids = np.array(self.bucket_ids)
        return {
            int(b): np.flatnonzero(ids == b).astype(np.int32) for b in np.unique(ids)
        }

    def _turns(self, epoch: int) -> np.ndarray:
        """Buckets of as many steps as there are records, each as often as its records."""
        return _shuffled(self.bucket_ids, self.seed, epoch)


@functools.lru_cache(maxsize=4)
def _shuffled(bucket_ids: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    # 2 keeps the stream apart from those that order records and sample examples.
    return np.random.default_rng((seed, 2, epoch)).permutation(np.array(bucket_ids))


def schedule_of(
    records: Sequence[Record],
    *,
    seed: int,
    batch_size: int,
    buckets: Sequence[Bucket],
    resize: str = "fit",
) -> Schedule:
    """Makes the schedule of `instance_batches` with these arguments.

    Args:
      records: of objects.
      seed: of the order.
      batch_size: examples of one step, over all processes.
      buckets: sizes `(height, width)`.
      resize: how images meet them.

    Returns:
      The schedule; no image is read for it where records bring facts along.
    """
    sizes = facts_of(records).sizes.tolist()
    ids = tuple(bucket_of((h, w), buckets, resize) for h, w in sizes)
    return Schedule(ids, seed, batch_size)


def instance_batches(
    records: Sequence[Record],
    *,
    seed: int,
    batch_size: int,
    buckets: Sequence[Bucket],
    max_objects: int,
    augment: Augmentations = (("flip", {}),),
    resize: str = "fit",
    mask_size: int = 112,
    min_visibility: float = 0.25,
    keypoint_swap: Sequence[int] | None = None,
    process_index: int = 0,
    process_count: int = 1,
    start_step: int = 0,
    num_threads: int = 2,
) -> Batches:
    """Iterates over training batches of objects, endlessly, from `start_step` on.

    At the start it logs how many images each bucket has, and how many have more objects
    than there is room for: of those the smallest are left out, and counted.

    Args:
      records: of objects (`segjax.data.instance.records`), read from several threads.
      seed: of order, views and augmentations; not negative.
      batch_size: examples of one step, over all processes together.
      buckets: sizes `(height, width)` that images are padded to.
      max_objects: capacity of an example, G.
      augment: `(name, arguments)`, names of `segjax.data.augment.views`.
      resize: "fit" resizes each image until it just fits its bucket, "shrink" does so
        only where it is too large, "keep" never does and shows a random part.
      mask_size: side of the masks, m.
      min_visibility: fraction of an object's pixels that must be left where the edge of what
        is seen cuts it; less, and it is dropped. Regions of many objects always stay.
      keypoint_swap: which keypoint each one becomes in a mirror
        (`segjax.data.instance_spec.KeypointSpec.swap`).
      process_index: which rows of the global batch this process prepares.
      process_count: into how many equal parts the global batch is cut.
      start_step: step of the first batch.
      num_threads: threads that prepare batches; 0 prepares them when asked for.

    Returns:
      An iterator, to be closed or used as a context, of dicts with `image`
      `[b, H, W, 3]` float32 in [0, 1], 0 where padded; `sizes` `[b, 2]` int32, the
      `(height, width)` without padding; `boxes` `[b, G, 4]` float32; `classes` `[b, G]`
      int32, 0 for an empty slot; `crowd` `[b, G]` bool; `masks` `[b, G, m, m]` uint8,
      each cropped to its box; `keypoints` `[b, G, P, 3]` float32 where records have
      any; `num_dropped` `[b]` int32, objects there was no room for; and `record` `[b]` int32;
      b = batch_size / process_count.

    Raises:
      ValueError: when sizes, counts or the seed do not fit together.
      UserError: for an augmentation or argument that does not exist, or no records.
    """
    check_stream(
        len(records), seed, batch_size, process_index, process_count, start_step
    )
    buckets = check_buckets(buckets, resize)
    for name, value in (("max_objects", max_objects), ("mask_size", mask_size)):
        if not is_count(value):
            raise ValueError(f"{name} must be an integer above 0, got {value!r}")
    if not 0 <= min_visibility <= 1:
        raise ValueError(f"min_visibility must be from 0 to 1, got {min_visibility!r}")
    make = InstanceExampleMaker(
        records,
        seed,
        max_objects,
        augment,
        resize,
        mask_size,
        min_visibility,
        keypoint_swap,
    )
    schedule = schedule_of(
        records, seed=seed, batch_size=batch_size, buckets=buckets, resize=resize
    )
    _log_buckets(records, schedule, buckets, max_objects)
    local = batch_size // process_count
    first = process_index * local

    def batch(step: int) -> dict[str, np.ndarray]:
        ids, bucket = schedule.ids(step), buckets[schedule.bucket(step)]
        examples = [
            make(step * batch_size + i, int(ids[i]), bucket)
            for i in range(first, first + local)
        ]
        stacked = {key: np.stack([x[key] for x in examples]) for key in examples[0]}
        return {**stacked, "record": ids[first : first + local]}

    return endless(batch, start_step=start_step, num_threads=num_threads)


def evaluation_batches(
    records: Sequence[Record],
    *,
    batch_size: int,
    buckets: Sequence[Bucket],
    resize: str = "fit",
    part: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields each image once, whole, grouped by buckets; the last of each is filled up.

    Args:
      records: images, with or without objects.
      batch_size: images of a batch, B.
      buckets: sizes `(height, width)` that images are padded to.
      resize: "fit" or "shrink", as in training. With "keep" an image that is larger than
        every bucket is shrunk, since all of it is to be seen.
      part: i of n: the batches i, i + n, i + 2 n and so on alone.

    Yields:
      dicts with `image` `[B, H, W, 3]` float32 in [0, 1], `sizes` `[B, 2]` int32,
      `ratios` `[B, 2]` float32 (pixels of the record for one of the network, along y and
      x), `record` `[B]` int32, `record_sizes` `[B, 2]`, height and width of each record,
      and `valid` `[B]` bool, False for filling.

    Raises:
      ValueError: when a bucket is not a size, or `resize` or `batch_size` is not allowed.
    """
    buckets = check_buckets(buckets, resize)
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be above 0, got {batch_size!r}")
    sizes, groups = facts_of(records).sizes, _ids_by_bucket(records, buckets, resize)
    resize = "shrink" if resize == "keep" else resize
    batches = [
        (bucket, ids[start : start + batch_size])
        for bucket, ids in zip(buckets, groups, strict=True)
        for start in range(0, len(ids), batch_size)
    ]
    for bucket, ids in itertools.islice(batches, part[0], None, part[1]):
        filled = np.resize(ids, batch_size)
        shown = [evaluation_example(records[int(i)], bucket, resize) for i in ids]
        rows = [shown[i % len(ids)] for i in range(batch_size)]
        stacked = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        yield {
            **stacked,
            "record": filled.astype(np.int32),
            "record_sizes": sizes[filled],
            "valid": np.arange(batch_size) < len(ids),
        }


def evaluation_order(
    records: Sequence[Record], *, buckets: Sequence[Bucket], resize: str = "fit"
) -> list[int]:
    """Lists the images in the order in which `evaluation_batches` yields them.

    Args:
      records: images, with or without objects.
      buckets: sizes `(height, width)` that images are padded to.
      resize: how they meet them.

    Returns:
      Places of the images.
    """
    return np.concatenate(_ids_by_bucket(records, buckets, resize)).tolist()


def _ids_by_bucket(
    records: Sequence[Record], buckets: Sequence[Bucket], resize: str
) -> list[np.ndarray]:
    """The images of each bucket."""
    resize = "shrink" if resize == "keep" else resize
    sizes = facts_of(records).sizes.tolist()
    chosen = np.array([bucket_of((h, w), buckets, resize) for h, w in sizes], int)
    return [np.flatnonzero(chosen == number) for number in range(len(buckets))]


def evaluation_example(record: Record, bucket: Bucket, resize: str) -> dict[str, Any]:
    """Fits all of an image into a bucket: `image`, `sizes` and `ratios` of one example."""
    image = record["image"]
    frame = fit_to_bucket(whole((image.shape[0], image.shape[1])), bucket, resize, None)
    return {
        "image": padded(read_image(image, frame), bucket),
        "sizes": np.array(frame.size, np.int32),
        "ratios": np.array(frame.step, np.float32),
    }


def _log_buckets(
    records: Sequence[Record],
    schedule: Schedule,
    buckets: Sequence[Bucket],
    max_objects: int,
) -> None:
    """Logs the images of each bucket, and objects that there is no room for."""
    counts = np.bincount(schedule.bucket_ids, minlength=len(buckets))
    shown = ", ".join(
        f"{height} x {width}: {count}"
        for (height, width), count in zip(buckets, counts, strict=True)
    )
    log.info("Images in each bucket, %s; each is compiled for once.", shown)
    objects = facts_of(records).counts
    too_many = objects > max_objects
    if too_many.any():
        log.warning(
            "%d of %d training images have more than config.pipeline.max_objects=%d "
            "objects, up to %d: the smallest, %d in all, are left out of training "
            "unless a crop makes room. Raise it to train on them.",
            too_many.sum(),
            len(objects),
            max_objects,
            objects.max(),
            (objects - max_objects)[too_many].sum(),
        )
