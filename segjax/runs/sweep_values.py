"""The keys and values of a sweep: how they are written, combined, and become names of folders."""

from __future__ import annotations

import itertools
import math
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence

from segjax.errors import UserError

MOST_RUNS = 10_000
"""More than anybody means: a range such as 0..100000 is a slip of the keyboard."""

LONGEST_NAME = 200
"""Of a folder, in characters; disks have 255 bytes for a name."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_PLAIN = "()[]{},+='"
"""Characters of values that the name of a folder has as they are."""


def parse_over(text: str) -> tuple[str, list[str]]:
    """Reads a key and its values.

    Args:
      text: "KEY=VALUE;VALUE...", or "KEY=FIRST..LAST" for integers.

    Returns:
      The key and the text of each value.

    Raises:
      UserError: if it is neither, a value comes twice, or there are too many.

    Example:
      >>> parse_over("seed=0..2"), parse_over("schedule.learning_rate=1e-3;3e-3")
      (('seed', ['0', '1', '2']), ('schedule.learning_rate', ['1e-3', '3e-3']))
    """
    key, equals, listed = text.partition("=")
    values = [value.strip() for value in listed.split(";")]
    if not equals or not key or not all(values):
        raise UserError(
            f"--over={text} is not KEY=VALUE;VALUE or KEY=FIRST..LAST, such as "
            '--over=seed=0..4 or --over="schedule.learning_rate=1e-3;3e-3".'
        )
    if found := _RANGE.fullmatch(listed):
        first, last = map(int, found.groups())
        if not 0 <= last - first < MOST_RUNS:
            raise UserError(
                f"--over={text} has {max(last - first + 1, 0)} values: the first comes "
                f"before the last, and a sweep has at most {MOST_RUNS} runs."
            )
        values = [str(value) for value in range(first, last + 1)]
    if len({*values}) < len(values):
        raise UserError(f"--over={text} has a value twice.")
    return key, values


def combinations(over: Sequence[str]) -> list[dict[str, str]]:
    """All combinations of the values of some keys, the last key changing fastest.

    Args:
      over: see `parse_over`.

    Returns:
      The value of each key, for each run.

    Raises:
      UserError: as `parse_over`; if a key is named twice, or there are too many runs.

    Example:
      >>> combinations(["seed=0;1", "batch_size=2"])
      [{'seed': '0', 'batch_size': '2'}, {'seed': '1', 'batch_size': '2'}]
    """
    parsed = [parse_over(text) for text in over]
    keys = [key for key, _ in parsed]
    if len({*keys}) < len(keys):
        raise UserError(
            "Two --over have the same key: give it once, with all its values."
        )
    count = math.prod(len(values) for _, values in parsed)
    if count > MOST_RUNS:
        raise UserError(
            f"The sweep would have {count} runs; at most {MOST_RUNS} are made."
        )
    listed = itertools.product(*(values for _, values in parsed))
    return [dict(zip(keys, values, strict=True)) for values in listed]


def folder_names(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Names the folder of each run after its values.

    Args:
      runs: the value of each key, for each run.

    Returns:
      The names; a key is shortened to its last word where no other key ends in that.

    Raises:
      UserError: if a name is longer than disks take.

    Example:
      >>> folder_names([{"seed": "0", "schedule.learning_rate": "1e-3"}])
      ['seed=0,learning_rate=1e-3']
      >>> folder_names([{"model.name": "unet", "loss.name": "dice"}])
      ['model.name=unet,loss.name=dice']
    """
    short = short_keys(runs[0])
    names = [
        ",".join(
            f"{short[key]}={urllib.parse.quote(value, safe=_PLAIN)}"
            for key, value in run.items()
        )
        for run in runs
    ]
    longest = max(names, key=len)
    if len(longest) > LONGEST_NAME:
        raise UserError(
            f"The folder of a run would have a name of {len(longest)} characters, {longest}: "
            "make presets of such values, and sweep over fewer keys."
        )
    return names


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """The last word of each dotted key, or the whole key where another ends in that, too.

    Example:
      >>> short_keys(["model.name", "loss.name", "seed"])
      {'model.name': 'model.name', 'loss.name': 'loss.name', 'seed': 'seed'}
    """
    last = {key: key.rpartition(".")[2] for key in keys}
    words = list(last.values())
    return {key: w if words.count(w) == 1 else key for key, w in last.items()}
