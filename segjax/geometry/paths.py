"""Pieces of the paths that networks describe to `geometry.fields`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from segjax.geometry.fields import Layer


def prefixed(name: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The layers of a submodule, by their paths in the module that holds it.

    Example:
      >>> [layer.name for layer in prefixed("aspp", [Layer("project/conv")])]
      ['aspp/project/conv']
    """
    return tuple(
        dataclasses.replace(layer, name=f"{name}/{layer.name}") for layer in layers
    )


def interpolation(name: str, factor: int) -> Layer:
    """Bilinear interpolation with aligned corners from n to `factor (n - 1) + 1`.

    Example:
      >>> from segjax.geometry.fields import output_size
      >>> output_size([interpolation("resize", 16)], 33)
      513
    """
    taps = 2 * factor - 1
    return Layer(name, kernel=taps, stride=factor, padding=factor - 1, transposed=True)
