"""Groups of images, such as those of one animal, which are never on both sides of a split."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segjax.data.datasets.pairing import Page, block_cut
from segjax.data.datasets.split_index import column_of
from segjax.errors import UserError

_WORDS = {"group": "group", "balance": "kind"}
"""What keys of `config.data` name."""


def groups_of(
    names: Sequence[str], group: str, index: Path | None, key: str = "group"
) -> dict[str, str]:
    """Finds the group of each image.

    Args:
      names: of the images.
      group: a column of `index.csv`, or a regular expression over the names with one group
        in parentheses, such as `(mouse\\d+)_`.
      index: the file `index.csv`, if there is one.
      key: of the config, in the group `data`.

    Returns:
      The groups, by name.

    Raises:
      UserError: it is neither, or an image has no group.

    Example:
      >>> groups_of(["m1_a", "m2_a"], r"(m\\d+)_", None)
      {'m1_a': 'm1', 'm2_a': 'm2'}
    """
    found = None if index is None else column_of(index, names, group)
    if found is None:
        pattern = _pattern(group, index, key)
        matches = {name: pattern.search(name) for name in names}
        found = {name: match[1] or "" for name, match in matches.items() if match}
    alone = [name for name in names if not found.get(name)]
    if alone:
        raise UserError(
            f"config.data.{key} is {group!r}, which gives {alone[0]!r} no "
            f"{_WORDS[key]}, one of {len(alone)} such images. Give it one, or another pattern."
        )
    return found


def group_cut(
    pages: Sequence[Page],
    groups: Mapping[str, str],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[Page]]:
    """Cuts whole groups off, in the order of a hash of their names.

    Args:
      pages: all pages of all images.
      groups: of the images, by name.
      validation_fraction: of the groups, for validation; above 0 it is at least one.
      test_fraction: of the groups, for test.

    Returns:
      The pages of the splits, in their order.

    Raises:
      UserError: there are too few groups.
    """
    present = sorted({groups[page.pair.name] for page in pages}, key=_hash)
    parts = block_cut(present, validation_fraction, test_fraction)
    if not parts["train"]:
        which = ", ".join(map(repr, sorted(present)))
        raise UserError(
            f"The images are of {_count(present)} ({which}), which is too few: none is left "
            "to train on once validation and test have theirs. Add images of other groups, "
            "change config.data.group, or set config.data.validation_fraction=0."
        )
    of_group = {group: name for name, part in parts.items() for group in part}
    cut: dict[str, list[Page]] = {name: [] for name in parts}
    for page in pages:
        cut[of_group[groups[page.pair.name]]].append(page)
    return cut


def require_apart(
    parts: Mapping[str, Sequence[Page]], groups: Mapping[str, str]
) -> None:
    """Checks splits that were given, by folders or by `index.csv`.

    Raises:
      UserError: a group is in two of them.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, pages in parts.items():
        for page in pages:
            name = page.pair.name
            other, first = seen.setdefault(groups[name], (split, name))
            if other != split:
                raise UserError(
                    f"The group {groups[name]!r} is in the split {other} ({first}) and in "
                    f"{split} ({name}). Give all of its images one split, or change "
                    "config.data.group."
                )


def _pattern(group: str, index: Path | None, key: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(
            f"config.data.{key} is {group!r}, which is not a regular expression ({error})."
        ) from None
    if pattern.groups != 1:
        column = "not" if index is None else f"neither a column of {index} nor"
        raise UserError(
            f"config.data.{key} is {group!r}, which is {column} a pattern of names with one "
            r"group in parentheses, as in (mouse\d+)_."
        )
    return pattern


def _count(groups: Sequence[str]) -> str:
    return "one group alone" if len(groups) == 1 else f"{len(groups)} groups"


def _hash(group: str) -> str:
    return hashlib.sha256(os.fsencode(group)).hexdigest()
