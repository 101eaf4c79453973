"""Metrics from outside, of `config.evaluation.metrics`: imported, checked, averaged."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from segjax import parts
from segjax.errors import UserError, shown, suggestion
from segjax.training import sharding
from segjax.types import Record

WHERE = "config.evaluation.metrics"

GIVEN = ("image", "label", "prediction", "probabilities", "num_classes", "class_names")
"""What a metric is given by name, where it has an argument for it."""

Evaluated = TypeVar("Evaluated", bound=Any)
"""The settings of an evaluation."""

_OF_IMAGES = GIVEN[:4]
_TRIED = 16
"""Side in pixels of the image that a metric is tried on, before anything is compiled."""

Entry = str | tuple[str, Mapping[str, Any]]
"""The name of a metric, or that and arguments of it."""


def also_measured(evaluation: Evaluated, names: Sequence[str]) -> Evaluated:
    """The settings of an evaluation that measures more.

    Args:
      evaluation: a dataclass with `SWITCHES`, its keys that ask for metrics, and `metrics`.
      names: some of those keys, or metrics from outside.

    Returns:
      The settings with these.

    Raises:
      UserError: if a name is neither.
    """
    switches = {}
    for name in names:
        if name in evaluation.SWITCHES:
            switches[name] = True
        elif not parts.is_outside(name):
            raise UserError(
                f"--measure={name} is nothing that this run can be asked for."
                f"{suggestion(name, evaluation.SWITCHES)}"
            )
    outside = [name for name in names if name not in switches]
    metrics = (*evaluation.metrics, *outside)
    return dataclasses.replace(evaluation, metrics=metrics, **switches)


class OutsideMetrics:
    """The metrics from outside of an evaluation; a measure of images.

    A metric is a function of an image that returns numbers by name, which are averaged over
    the images where they are defined, or a class whose `count` returns an array of an image:
    the arrays are added up, and `metrics` reads numbers from the sum.

    Attributes:
      names: of all their numbers.
      outputs: what they need of a predictor besides `labels`.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        class_names: Sequence[str],
        *,
        has_probabilities: bool = True,
    ):
        """Imports the metrics, and tries each on a small image.

        Args:
          entries: names, or names with arguments.
          class_names: of the classes of pixels; where objects are found, of the objects.
          has_probabilities: whether there are probabilities of pixels.

        Raises:
          UserError: if one cannot be imported, fails, or gives no numbers by name.
        """
        known = {"num_classes": len(class_names), "class_names": tuple(class_names)}
        given = [x for x in GIVEN if has_probabilities or x != "probabilities"]
        if not isinstance(entries, tuple | list):
            raise UserError(
                f"{WHERE} is {shown(entries)}: give a tuple of names, such as "
                '("my_package.metrics:name",).'
            )
        self._metrics = [_metric(entry, given, known) for entry in entries]
        tried = _example(len(class_names), has_probabilities)
        found: list[str] = []
        for metric in self._metrics:
            metric.begin(tried)
            found += metric.names
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise UserError(
                f"{WHERE}: {twice[0]} is measured twice: rename one of them."
            )
        self.names = tuple(found)
        wants = any("probabilities" in metric.taken for metric in self._metrics)
        self.outputs: tuple[str, ...] = ("probabilities",) if wants else ()

    def check_names(self, known: Collection[str]) -> None:
        """Checks that no name is one of segjax.

        Raises:
          UserError: naming it.
        """
        for name in self.names:
            if name in known:
                raise UserError(
                    f"{WHERE}: {name} is a metric of segjax: give yours another name."
                )

    def add(
        self, place: int, record: Record, page: Mapping[str, np.ndarray]
    ) -> Mapping[str, float]:
        """Adds an image.

        Args:
          place: of the record in the split.
          record: `image` `[H, W, C]` and `label` `[H, W]`.
          page: `labels` `[H, W]`, and `probabilities` `[H, W, K]` where they are needed.

        Returns:
          The numbers of this image, by name.
        """
        image = {
            "image": record["image"],
            "label": np.asarray(record["label"]),
            "prediction": page["labels"],
            "probabilities": page.get("probabilities"),
        }
        where = f"image {record.get('name', place)!s}"
        found: dict[str, float] = {}
        for metric in self._metrics:
            found |= metric.add(image, where)
        return found

    def gather(self) -> None:
        """Adds what the other processes saw."""
        for metric in self._metrics:
            metric.gather()

    def metrics(self) -> dict[str, float]:
        """The numbers of all images, by name; NaN where one is undefined in all."""
        found: dict[str, float] = {}
        for metric in self._metrics:
            found |= metric.result()
        return found


class _Mean:
    """A function of an image, whose numbers are averaged over images."""

    def __init__(self, name: str, function: Callable[..., Any], taken: Collection[str]):
        self.name, self._function, self.taken = name, function, taken
        self.names: tuple[str, ...] = ()
        self._rows: Any = []

    def begin(self, example: Mapping[str, Any]) -> None:
        """Tries it, to know the names of its numbers."""
        self.names = tuple(self._numbers(example, "a small image"))

    def _numbers(self, image: Mapping[str, Any], where: str) -> dict[str, float]:
        given = {key: image[key] for key in _OF_IMAGES if key in self.taken}
        return _checked(self.name, where, self._function, **given)

    def add(self, image: Mapping[str, Any], where: str) -> dict[str, float]:
        """Adds an image."""
        found = self._numbers(image, where)
        if other := set(found) ^ set(self.names):
            raise UserError(
                f"{WHERE}: {self.name} gives {sorted(other)[0]!r} of some images alone: "
                "give the same names of each, NaN where one is undefined."
            )
        self._rows.append([found[name] for name in self.names])
        return found

    def gather(self) -> None:
        rows = np.array(self._rows, np.float64).reshape(-1, len(self.names))
        self._rows = list(sharding.gather(rows))

    def result(self) -> dict[str, float]:
        rows = np.array(self._rows, np.float64).reshape(-1, len(self.names))
        known = [column[np.isfinite(column)] for column in rows.T]
        return {
            name: float(values.mean()) if values.size else math.nan
            for name, values in zip(self.names, known, strict=True)
        }


class _Sum:
    """An object whose `count` of each image is added up, and read by its `metrics`."""

    def __init__(self, name: str, metric: Any, taken: Collection[str]):
        self.name, self._metric, self.taken = name, metric, taken
        self.names: tuple[str, ...] = ()
        self._total = np.zeros(())

    def begin(self, example: Mapping[str, Any]) -> None:
        """Tries it, to know the names of its numbers and the shape of its counts."""
        counts = self._counts(example, "a small image")
        self.names = tuple(self._read(counts, "a small image"))
        self._total = np.zeros_like(counts)

    def _counts(self, image: Mapping[str, Any], where: str) -> np.ndarray:
        given = {key: image[key] for key in _OF_IMAGES if key in self.taken}
        counts = np.asarray(_called(self.name, where, self._metric.count, **given))
        if counts.dtype.kind not in "biuf":
            raise UserError(
                f"{WHERE}: count of {self.name} gives {counts.dtype}: it gives an array of "
                "numbers, which is added to those of other images."
            )
        return counts.astype(np.int64 if counts.dtype.kind in "biu" else np.float64)

    def _read(self, counts: np.ndarray, where: str) -> dict[str, float]:
        return _checked(self.name, where, self._metric.metrics, counts)

    def add(self, image: Mapping[str, Any], where: str) -> dict[str, float]:
        """Adds an image."""
        counts = self._counts(image, where)
        if counts.shape != self._total.shape:
            raise UserError(
                f"{WHERE}: count of {self.name} gives shape {list(counts.shape)} of {where} "
                f"and {list(self._total.shape)} of another: let it be the same of all."
            )
        self._total = self._total + counts
        return self._read(counts, where)

    def gather(self) -> None:
        self._total = sharding.gather(self._total[None]).sum(0)

    def result(self) -> dict[str, float]:
        return self._read(self._total, "all images")


def _metric(entry: Any, given: Sequence[str], known: Mapping[str, Any]) -> _Mean | _Sum:
    """Imports a metric, and binds the arguments that are known before there are images."""
    name, arguments = (entry, {}) if isinstance(entry, str) else _pair(entry)
    if not parts.is_outside(name):
        raise UserError(
            f"{WHERE} holds {shown(name)}: a metric of your own is named "
            '"my_package.metrics:name"; those of segjax are keys of config.evaluation.'
        )
    found = parts.find({}, name, WHERE)
    is_class = inspect.isclass(found)
    early = {key: value for key, value in known.items() if key in given}
    taken = parts.inspect_arguments(found, WHERE)
    parts.check_arguments(
        found, arguments, WHERE, given_later=tuple(early) if is_class else tuple(given)
    )
    bound = {**arguments, **{k: v for k, v in early.items() if k in taken}}
    if not is_class:
        return _Mean(name, functools.partial(found, **bound), taken)
    made = _called(name, "the classes of the data set", found, **bound)
    if not (hasattr(made, "count") and hasattr(made, "metrics")):
        raise UserError(
            f"{WHERE}: {name} is a class without `count` and `metrics`: a metric has both, "
            "or is a function."
        )
    return _Sum(name, made, parts.inspect_arguments(made.count, WHERE))


def _pair(entry: Any) -> tuple[Any, Mapping[str, Any]]:
    is_pair = isinstance(entry, tuple | list) and len(entry) == 2
    if not is_pair or not isinstance(entry[1], Mapping):
        raise UserError(
            f"{WHERE} holds {shown(entry)}: give a name, or (name, arguments)."
        )
    return entry[0], entry[1]


def _called(
    name: str, where: str, function: Callable[..., Any], *values: Any, **given: Any
) -> Any:
    """Calls code from outside, which may raise anything."""
    try:
        return function(*values, **given)
    except Exception as error:  # whatever code from outside can raise
        raise UserError(
            f"{WHERE}: {name} fails on {where}: {parts.told(error)}."
        ) from error


def _checked(
    name: str, where: str, function: Callable[..., Any], *values: Any, **given: Any
) -> dict[str, float]:
    """The numbers that code from outside gives, infinite ones as NaN."""
    found = _called(name, where, function, *values, **given)
    is_named = isinstance(found, Mapping) and all(isinstance(x, str) for x in found)
    if not (is_named and found):
        raise UserError(
            f"{WHERE}: {name} gives {shown(found)}: a metric gives numbers by name, such "
            'as {"my_metric": 0.5}.'
        )
    numbers = {}
    for key, value in found.items():
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "biuf":
            raise UserError(
                f"{WHERE}: {name} gives {array.dtype} {list(array.shape)} for {key!r}: a "
                "metric is one number for each name."
            )
        number = float(array)
        numbers[key] = number if math.isfinite(number) else math.nan
    return numbers


def _example(num_classes: int, has_probabilities: bool) -> dict[str, Any]:
    """A small image with all classes, as far as they fit, predicted a pixel off."""
    places = np.arange(_TRIED * _TRIED).reshape(_TRIED, _TRIED)
    label = (places // 4 % num_classes).astype(
        np.uint8 if has_probabilities else np.int32
    )
    prediction = np.roll(label, 1, 1)
    example: dict[str, Any] = {
        "image": np.zeros((_TRIED, _TRIED, 1), np.uint8),
        "label": label,
        "prediction": prediction,
    }
    if has_probabilities:
        sure = np.eye(num_classes, dtype=np.float32)[prediction]
        example["probabilities"] = (0.8 * sure + 0.2 / num_classes).astype(np.float32)
    return example
