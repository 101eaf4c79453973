"""Training batches: shuffled, cropped and augmented records, the same ones on every run.

The stream is a function of its arguments alone. Step s holds the global examples
`[s * batch_size, (s + 1) * batch_size)`; global example g is a record (the order is
reshuffled every epoch) changed by a generator seeded by the seed and g. So neither the
number of processes, nor that of threads, nor the step at which a run resumes changes what
the network sees.
"""

from __future__ import annotations

import collections
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grain
import numpy as np

from segjax.data.augment.augmentations import Augmentations
from segjax.data.normalization import Intensities, method_of
from segjax.data.semantic.examples import ExampleMaker, Size, record_name
from segjax.errors import UserError
from segjax.types import Record


class Batches:
    """An endless iterator of batches that wants to be closed.

    Example:
      >>> import numpy as np
      >>> image, label = np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8), np.uint8)
      >>> records = [{"image": image, "label": label, "name": "a"}]
      >>> with train_batches(
      ...     records, seed=0, batch_size=2, input_size=6, output_size=4
      ... ) as batches:
      ...     batch = next(batches)
      >>> {key: value.shape for key, value in batch.items()}
      {'image': (2, 6, 6, 1), 'label': (2, 4, 4), 'weight': (2, 4, 4), 'record': (2,)}
    """

    def __init__(self, iterator: grain.DatasetIterator) -> None:
        self._iterator = iterator

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._iterator)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the threads that prepare batches."""
        self._iterator.close()


def train_batches(
    records: Sequence[Record],
    *,
    seed: int,
    batch_size: int,
    input_size: Size,
    output_size: Size,
    augment: Augmentations = (("flip", {}),),
    normalization: str = "range",
    percentiles: Mapping[str, Any] | None = None,
    intensities: Intensities | None = None,
    border_weight: Mapping[str, Any] | None = None,
    foreground_fraction: float = 0.0,
    shares: tuple[float, ...] = (),
    process_index: int = 0,
    process_count: int = 1,
    start_step: int = 0,
    num_threads: int = 2,
) -> Batches:
    """Iterates over training batches, endlessly, from `start_step` on.

    Args:
      records: labelled images, read by index from several threads.
      seed: of order, crops and augmentations; not negative.
      batch_size: examples of one step, over all processes together.
      input_size: side or `(height, width)` of what the network sees.
      output_size: the same of what it answers; the difference must be even.
      augment: `(name, arguments)` in order, names of `segjax.data.augment.augmentations`.
      normalization: method of `segjax.data.files.images.normalize`.
      percentiles: `low`, `high` and `over` of
        `segjax.data.normalization.Percentiles`, where that is the method.
      intensities: what that method learned of the training split.
      border_weight: None, or `cell_class` and arguments of
        `segjax.data.semantic.weight_map.border_weight`.
      foreground_fraction: probability that a crop is centred on a pixel that is not of
        class 0, where the image has one; for classes that are rare.
      shares: how often each record is seen in an epoch, on average, such as by `shares_of`;
        empty for once.
      process_index: which rows of the global batch this process prepares.
      process_count: into how many equal parts the global batch is cut.
      start_step: step of the first batch.
      num_threads: threads that prepare batches; 0 prepares them when asked for.

    Returns:
      An iterator, to be closed or used as a context, of dicts with `image`
      `[b, H, W, C]` float32, `label` `[b, h, w]` int32, `weight` `[b, h, w]` float32 and
      `record` `[b]` int32 (indices into `records`); b = batch_size / process_count.

    Raises:
      ValueError: when sizes, counts or the seed do not fit together.
      UserError: for an augmentation or argument that does not exist, or no records.
    """
    check_stream(
        len(records), seed, batch_size, process_index, process_count, start_step
    )
    method = method_of(normalization, percentiles, intensities)
    make = ExampleMaker(
        records,
        seed,
        input_size,
        output_size,
        augment,
        method,
        border_weight,
        foreground_fraction,
    )
    local = batch_size // process_count
    first = process_index * local

    def batch(step: int) -> dict[str, np.ndarray]:
        ids = record_ids(
            len(records), seed=seed, batch_size=batch_size, step=step, shares=shares
        )
        positions = range(first, first + local)
        examples = [make(step * batch_size + i, int(ids[i])) for i in positions]
        stacked = {key: np.stack([x[key] for x in examples]) for key in examples[0]}
        return {**stacked, "record": ids[first : first + local]}

    return endless(batch, start_step=start_step, num_threads=num_threads)


def check_stream(
    num_records: int,
    seed: int,
    batch_size: int,
    process_index: int,
    process_count: int,
    start_step: int,
) -> None:
    """Checks the numbers that every endless stream is a function of.

    Args:
      num_records: how many there are.
      seed: not negative.
      batch_size: a multiple of `process_count`.
      process_index: below `process_count`.
      process_count: at least 1.
      start_step: not negative.

    Raises:
      UserError: when there are no records.
      ValueError: when counts or the seed do not fit together.
    """
    if not num_records:
        raise UserError("The training split has no records; check the data folder.")
    if seed < 0 or start_step < 0:
        raise ValueError(
            f"seed and start_step must not be negative, got {seed} and {start_step}"
        )
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must lie in [0, {process_count}), got {process_index}"
        )
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size must be a positive multiple of process_count"
            f" ({process_count}), got {batch_size}"
        )


def endless(
    batch: Callable[[int], dict[str, np.ndarray]], *, start_step: int, num_threads: int
) -> Batches:
    """Prepares the batches of steps ahead of time, from `start_step` on.

    Args:
      batch: the batch of a step, a function of the step alone.
      start_step: step of the first batch.
      num_threads: threads that prepare batches; 0 prepares them when asked for.

    Returns:
      The iterator, to be closed.
    """
    steps = grain.MapDataset.range(sys.maxsize).map(batch)
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=2 * num_threads
    )
    iterator = iter(steps.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return Batches(iterator)


def shares_of(kinds: Sequence[str]) -> tuple[float, ...]:
    """How often to see each record, so that rare kinds are not drowned by the common one.

    A kind is seen in proportion to the square root of how many records it has (Mahajan et
    al. 2018, ECCV, arXiv 1805.00932): of 100 and 4 records, 10 to 2.

    Args:
      kinds: that of each record.

    Returns:
      How often each is seen in an epoch, on average; their sum is the number of records.

    Example:
      >>> shares_of(["a", "a", "a", "a", "b"])
      (0.8333333333333334, 0.8333333333333334, 0.8333333333333334, 0.8333333333333334, 1.6666666666666667)
    """
    counts = collections.Counter(kinds)
    total = sum(math.sqrt(count) for count in counts.values())
    return tuple(len(kinds) / total / math.sqrt(counts[kind]) for kind in kinds)


def record_ids(
    num_records: int,
    *,
    seed: int,
    batch_size: int,
    step: int,
    shares: tuple[float, ...] = (),
) -> np.ndarray:
    """Recomputes which records a step holds, over all processes, reading none of them.

    Args:
      num_records: how many there are.
      seed: as in `train_batches`, like the others.
      batch_size: of the step, over all processes.
      step: from 0.
      shares: how often each record is seen in an epoch.

    Returns:
      Indices into the records, `[batch_size]` int32, in the order of the global batch.
    """
    first = step * batch_size
    places = [divmod(g, num_records) for g in range(first, first + batch_size)]
    orders = {epoch: _order(num_records, seed, epoch, shares) for epoch in dict(places)}
    ids = [orders[epoch][place] for epoch, place in places]
    return np.array(ids, np.int32)


def record_names(records: Sequence[Record], ids: Sequence[int]) -> list[str]:
    """Names the records with these indices, each once, in their order."""
    return [record_name(records[i]) for i in dict.fromkeys(map(int, ids))]


@functools.lru_cache(maxsize=8)
def _order(
    num_records: int, seed: int, epoch: int, shares: tuple[float, ...]
) -> np.ndarray:
    """Order of the records in an epoch, each as often as its share, rounded up or down.

    Grain's own shuffle finds one place at a time in constant memory, but for a few dozen
    records it takes milliseconds a place, as long as the rest of an example.
    """
    rng = np.random.default_rng((seed, 0, epoch))
    if not shares:
        return rng.permutation(num_records)
    ends = np.cumsum((0.0, *shares))
    ends[-1] = num_records  # without what rounding left
    counts = np.diff(np.floor(ends + rng.random())).astype(int)
    return rng.permutation(np.repeat(np.arange(num_records), counts))
