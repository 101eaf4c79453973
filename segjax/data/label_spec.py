"""The meaning of values in a label file: stated once, printed at start, and checked."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

_TABLE_SIZE = 1 << 16
_INVALID = -1
_VALUES_SHOWN = 5
_MANY_VALUES = 8


@dataclass(frozen=True)
class LabelSpec:
    """Classes of a data set, and which stored value stands for which of them.

    A stored value is looked up in `remap` first, then compared with `ignore`, then
    taken for a class id; anything else is refused by `to_ids`. So black-and-white
    masks need `remap=((255, 1),)`, and files that count classes from 1 and mark
    unlabelled pixels by 0 need `ignore=0, remap=((1, 0), (2, 1))`.

    Attributes:
      names: one name per class; the position is the class id.
      colors: one (red, green, blue) of 0 to 255 per class, for pictures.
      ignore: stored value of pixels that do not count, or None where there is none; any
        integer, such as -1.
      remap: pairs (stored value, class id). The class id may also be `IGNORE_LABEL`.

    Raises:
      UserError: the parts contradict each other.

    Example:
      >>> spec = LabelSpec(
      ...     ("membrane", "cell"), ((0, 0, 0), (255, 255, 255)), remap=((255, 1),)
      ... )
      >>> spec.to_ids(np.array([[0, 255]]), where="a.png")
      array([[0, 1]], dtype=uint8)
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore: int | None = IGNORE_LABEL
    remap: tuple[tuple[int, int], ...] = ()

    most_classes: ClassVar[int] = IGNORE_LABEL
    """Class ids are values of bytes, and 255 is taken."""

    def __post_init__(self) -> None:
        # A config that came back from JSON has lists; as tuples the spec is hashable.
        for field in ("names", "colors", "remap"):
            object.__setattr__(self, field, _tuples(getattr(self, field)))
        _check(self)

    @property
    def num_classes(self) -> int:
        """How many classes there are, K."""
        return len(self.names)

    def to_ids(
        self, raw: np.ndarray, where: str, *, remappable: bool = True
    ) -> np.ndarray:
        """Turns stored values into class ids.

        Args:
          raw: values as stored, any integer type or bool, `[H, W]`.
          where: what to call the file (and page) in an error.
          remappable: whether the data set has a key `remap`, which errors may advise.

        Returns:
          Class ids, uint8 `[H, W]`; `IGNORE_LABEL` where a pixel does not count.

        Raises:
          UserError: a value that the spec does not know, or values that are not integers.
        """
        if raw.dtype.kind not in "biu":
            raise UserError(
                f"{where} holds {raw.dtype} values where class ids are expected, which are "
                "integers. Save the labels as 8- or 16-bit integers."
            )
        table = _table(self)
        if raw.dtype.kind == "b":
            raw = raw.astype(np.uint8)
        outside = None
        if raw.dtype.itemsize > 2 or raw.dtype.kind == "i":
            outside = (raw < 0) | (raw >= _TABLE_SIZE)
        if outside is None or not outside.any():
            ids = table[raw]
        else:
            ids = table[np.where(outside, 0, raw)]
            ids[outside] = _INVALID
            for value, class_id in _values(self):
                if not 0 <= value < _TABLE_SIZE:
                    ids[raw == value] = class_id
        if (ids == _INVALID).any():
            raise self._unknown_values(raw, where, remappable)
        return ids.astype(np.uint8)

    def stored_value(self, class_id: int) -> int | None:
        """The least stored value of a class id, or of `IGNORE_LABEL`; None: there is none."""
        return next(iter(_stored_values(self)[class_id]), None)

    @property
    def value_names(self) -> tuple[str, ...]:
        """What each value of a label from 0 on stands for."""
        return self.names

    @property
    def value_colors(self) -> tuple[tuple[int, int, int], ...]:
        """The colour of each value of a label from 0 on."""
        return self.colors

    def class_pixels(self, counts: np.ndarray) -> np.ndarray:
        """Pixels of each class `[K]`, of the pixels of each value of a label `[256]`."""
        return counts[: self.num_classes]

    def describe(self) -> str:
        """Returns a table of ids, names, colours and the stored values they stand for.

        Example:
          >>> print(LabelSpec(("membrane", "cell"), ((0, 0, 0), (255, 255, 255)),
          ...                 remap=((255, 1),)).describe())
          id   class     colour       stored as
            0  membrane  0,0,0        0
            1  cell      255,255,255  1, 255
        """
        stored = _stored_values(self)
        rows = [
            (str(i), name, ",".join(map(str, color)), _listed(stored[i]))
            for i, (name, color) in enumerate(zip(self.names, self.colors, strict=True))
        ]
        if stored[IGNORE_LABEL]:
            ignored = (
                str(IGNORE_LABEL),
                "(ignored)",
                "",
                _listed(stored[IGNORE_LABEL]),
            )
            rows.append(ignored)
        rows.insert(0, ("id ", "class", "colour", "stored as"))
        width = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            f"{row[0]:>3}  {row[1]:<{width[1]}}  {row[2]:<{width[2]}}  {row[3]}"
            for row in rows
        )

    def _unknown_values(
        self, raw: np.ndarray, where: str, remappable: bool
    ) -> UserError:
        """Returns the error that names the values which are not in the spec."""
        stored = _stored_values(self)
        known = [value for values in stored.values() for value in values]
        values, counts = np.unique(raw[~np.isin(raw, known)], return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_VALUES_SHOWN]
        found = ", ".join(f"{values[i]} ({_pixels(int(counts[i]))})" for i in most)
        if len(values) > _VALUES_SHOWN:
            found += f" and {len(values) - _VALUES_SHOWN} more"
        meanings = dict(enumerate(self.names)) | {IGNORE_LABEL: "ignored"}
        allowed = ", ".join(
            f"{value} ({meanings[target]})"
            for target, targets in stored.items()
            for value in targets
        )
        remedy = (
            self._remedy([int(value) for value in values])
            if remappable
            else "Put the original file there, or read labels of your own with the data "
            "set 'folder', whose key remap says what values mean."
        )
        return UserError(
            f"{where} has label values that mean nothing here: {found}; allowed are "
            f"{allowed}. {remedy}"
        )

    def _remedy(self, values: Sequence[int]) -> str:
        """Says what to do about stored values that are not in the spec."""
        if len(values) > _MANY_VALUES:
            return (
                "So many values are either numbers of objects, which "
                "--config.data.labels=instances makes classes of. Or they are edges that "
                "were smoothed or "
                "compressed with loss: save the labels anew without that."
            )
        pairs = (*self.remap, *((value, self.num_classes - 1) for value in values))
        them = values[0] if len(values) == 1 else "these values"
        return (
            "Correct the file or say what the values mean, for example "
            f"remap={pairs} makes {them} the class {self.names[-1]!r}; with "
            f"{IGNORE_LABEL} in place of {self.num_classes - 1} they do not count."
        )


@dataclass(frozen=True)
class InstanceClasses(LabelSpec):
    """Classes of objects, the background first; no pixel holds their ids, so any number is
    possible that the network has room for.

    Example:
      >>> names = tuple(f"class{i}" for i in range(1204))
      >>> InstanceClasses(names, ((0, 0, 0),) * 1204).num_classes
      1204
    """

    ignore: int | None = None

    most_classes: ClassVar[int] = 1 << 16


def _tuples(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part) for part in value)
    return value


def _check(spec: LabelSpec) -> None:
    """Raises `UserError` where the parts of a spec contradict each other."""
    count = spec.num_classes
    if not 2 <= count <= spec.most_classes:
        raise UserError(
            f"classes: {count} given; between 2 and {spec.most_classes} are possible."
        )
    if len(spec.colors) != count:
        raise UserError(
            f"classes: {len(spec.colors)} colours for {count} names; give one each."
        )
    repeated = sorted(name for name, n in Counter(spec.names).items() if n > 1)
    if repeated:
        raise UserError(f"classes: the name {repeated[0]!r} occurs twice; rename one.")
    for name, color in zip(spec.names, spec.colors, strict=True):
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise UserError(
                f"classes: {name!r} has the colour {color}; give (red, green, blue), "
                "each from 0 to 255."
            )
    if spec.ignore is not None and not _is_integer(spec.ignore):
        raise UserError(
            f"ignore: {spec.ignore!r} given; use an integer, or None where all pixels "
            "count."
        )
    for pair in spec.remap:
        if len(pair) != 2 or not all(map(_is_integer, pair)):
            raise UserError(
                f"remap: {pair} given; each entry is a pair of integers (stored value, "
                "class id), as in remap=((255, 1),)."
            )
        if not (0 <= pair[1] < count or pair[1] == IGNORE_LABEL):
            raise UserError(
                f"remap: {pair} leads to class {pair[1]}, which does not exist; use 0 "
                f"to {count - 1}, or {IGNORE_LABEL} for pixels that do not count."
            )
    sources = [pair[0] for pair in spec.remap]
    twice = sorted({value for value in sources if sources.count(value) > 1})
    if twice:
        raise UserError(f"remap: the value {twice[0]} is mapped twice; keep one pair.")
    if spec.ignore is None and not spec.remap:
        return  # every value stands for itself
    for class_id, values in _stored_values(spec).items():
        if class_id != IGNORE_LABEL and not values:
            raise UserError(
                f"classes: no stored value stands for {spec.names[class_id]!r} (class "
                f"{class_id}), as remap or ignore take {class_id} away; add a pair "
                "(stored value, class id) to remap."
            )


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _values(spec: LabelSpec) -> Iterator[tuple[int, int]]:
    """Yields stored values and their class ids; a later pair goes before an earlier one."""
    yield from ((class_id, class_id) for class_id in range(spec.num_classes))
    if spec.ignore is not None:
        yield spec.ignore, IGNORE_LABEL
    yield from spec.remap


@functools.lru_cache(maxsize=16)
def _table(spec: LabelSpec) -> np.ndarray:
    """Returns the class id of every possible stored value, `_INVALID` for the rest."""
    table = np.full(_TABLE_SIZE, _INVALID, np.int16)
    for value, class_id in _values(spec):
        if 0 <= value < _TABLE_SIZE:
            table[value] = class_id
    table.setflags(write=False)
    return table


def _stored_values(spec: LabelSpec) -> dict[int, list[int]]:
    """Returns the stored values of each class id and of `IGNORE_LABEL`."""
    found: dict[int, list[int]] = {
        k: [] for k in (*range(spec.num_classes), IGNORE_LABEL)
    }
    for value, class_id in sorted(dict(_values(spec)).items()):
        found[class_id].append(value)
    return found


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))


def _pixels(count: int) -> str:
    return f"{count} pixel" if count == 1 else f"{count} pixels"
