"""Temperature scaling: probabilities that are neither too sure nor too unsure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from segjax.predict.heads import Head
from segjax.predict.scaled import NormalizedImage
from segjax.types import Array


class Pages(Protocol):
    """What predicts a stream of images, such as `segjax.predict.tiled.Predictor`.

    Attributes:
      head: how its logits are read.
    """

    head: Head

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields the outputs of each image."""
        ...


@dataclass(frozen=True)
class TemperatureScaling:
    """The group `config.calibration` of an experiment.

    Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv 1706.04599, section 4.2: all logits are
    divided by one number, fitted on images that training has not seen. Labels stay as they are.

    Attributes:
      temperature: that number; above 1 makes probabilities less sure.

    Raises:
      ValueError: unless it is above 0 and finite.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        value = self.temperature
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < float("inf"):
            raise ValueError(f"temperature is a number above 0, got {value!r}")

    def __call__(self, predictor: Pages) -> Pages:
        """Scales what a predictor gives; the predictor itself at a temperature of 1."""
        return (
            predictor if self.temperature == 1 else _Scaled(predictor, self.temperature)
        )


class _Scaled:
    """A predictor whose logits are divided by a temperature."""

    def __init__(self, predictor: Pages, temperature: float):
        self._predictor, self._temperature = predictor, temperature
        self.head = predictor.head

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Predicts a stream of images; see `segjax.predict.tiled.Predictor.pages`."""
        changed = tuple(name for name in outputs if name != "labels")
        asked = ("labels",) * ("labels" in outputs) + ("logits",) * bool(changed)
        for page in self._predictor.pages(images, asked):
            scaled = {}
            if changed:
                found = _scaled(page["logits"], self._temperature, changed, self.head)
                scaled = jax.device_get(found)
            if "labels" in outputs:
                scaled["labels"] = page["labels"]
            yield scaled


@functools.partial(jax.jit, static_argnums=(2, 3))
def _scaled(
    logits: Array, temperature: float, outputs: tuple[str, ...], head: Head
) -> dict[str, Array]:
    return head.outputs(logits / temperature, outputs)
