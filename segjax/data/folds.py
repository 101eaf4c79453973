"""Folds: the labelled images in equal parts, each of which validates once.

A network is trained for each part, on the others. Each labelled image is then measured by
a network that has not seen it, and the spread over the folds says how much the result
depends on which images validate (Stone 1974, J. R. Stat. Soc. B 36(2), 111-147).
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence

from segjax.data.dataset import Dataset, LazyRecords, together
from segjax.errors import UserError
from segjax.types import Record, is_integer


def with_fold(dataset: Dataset, split: str, *, index: int, count: int) -> Dataset:
    """Makes one fold validate, and the others train.

    Args:
      dataset: the records of "train" and of `split` are put together and divided; others
        stay as they are.
      split: the one that is evaluated during training.
      index: the fold that validates, from 0.
      count: of the folds.

    Returns:
      The data set with other records in "train" and `split`, and all of them as `pool`.

    Raises:
      UserError: if there are too few images, or groups of them, or no such fold.
    """
    if not is_integer(count) or count < 2:
        raise UserError(f"The number of folds is at least 2, got {count!r}.")
    if not is_integer(index) or not 0 <= index < count:
        raise UserError(f"config.fold.index is 0 to {count - 1}, got {index!r}.")
    if split == "train":
        raise UserError(
            'config.evaluation.split is "train", but folds need a split that does not '
            'train: "validation".'
        )
    names = [name for name in ("train", split) if name in dataset.splits]
    pool = together(*(dataset.splits[name] for name in names))
    groups = None
    if dataset.groups is not None:
        given = dataset.groups
        groups = list(itertools.chain.from_iterable(given[name] for name in names))
    numbers = fold_numbers(len(pool), groups, count)
    order = list(range(len(pool)))
    if groups is not None:  # pages of a stack that was cut lie side by side again
        first = {group: i for i, group in reversed(list(enumerate(groups)))}
        order.sort(key=lambda i: first[groups[i]])

    def chosen(validates: bool) -> list[int]:
        return [i for i in order if (numbers[i] == index) == validates]

    def records(places: Sequence[int]) -> Sequence[Record]:
        return LazyRecords(lambda place: pool[places[place]], range(len(places)))

    parts = {"train": chosen(False), split: chosen(True)}
    splits = {name: records(places) for name, places in parts.items()}

    def divided(
        known: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, Sequence[str]] | None:
        """What is known of each record, at its new place."""
        if known is None:
            return None
        every = list(itertools.chain.from_iterable(known[name] for name in names))
        return dict(known) | {
            name: [every[i] for i in places] for name, places in parts.items()
        }

    return dataclasses.replace(
        dataset,
        splits=dict(dataset.splits) | splits,
        groups=divided(dataset.groups),
        kinds=divided(dataset.kinds),
        image_hashes=divided(dataset.image_hashes),
        pool=pool,
    )


def fold_numbers(records: int, groups: Sequence[str] | None, count: int) -> list[int]:
    """The fold in which each record validates.

    Groups stay together. The largest goes first, into the fold that has the fewest records;
    groups of one size are in the order of a hash of their names, so that neighbours do not
    end in one fold. Where no groups are known, or all records are of one, such as the pages of
    a stack, folds are blocks of neighbours, since these look alike.

    Args:
      records: how many there are.
      groups: that of each record.
      count: of the folds.

    Returns:
      Numbers from 0.

    Raises:
      UserError: if a fold would be empty.

    Example:
      >>> fold_numbers(4, None, 2)
      [0, 0, 1, 1]
      >>> fold_numbers(5, ["mouse1", "mouse1", "mouse2", "mouse2", "mouse3"], 3)
      [0, 0, 1, 1, 2]
    """
    if records < count:
        raise UserError(
            f"There are {records} labelled images to divide into {count} folds: give at "
            f"most --folds={records}."
        )
    sizes = collections.Counter(groups or ())
    if groups is None or len(sizes) == 1:
        return [i * count // records for i in range(records)]
    if len(sizes) < count:
        raise UserError(
            f"The {records} labelled images are of {len(sizes)} groups, such as stacks, "
            f"which folds keep together: give at most --folds={len(sizes)}."
        )
    totals, folds = [0] * count, dict[str, int]()
    for group in sorted(sizes, key=lambda group: (-sizes[group], _hash(group))):
        folds[group] = totals.index(min(totals))
        totals[folds[group]] += sizes[group]
    return [folds[group] for group in groups]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
