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


def enlargement(name: str, factor: int) -> Layer:
    """Bilinear interpolation from n to `factor n`, outer edge on outer edge.

    Example:
      >>> from segjax.geometry.fields import output_size
      >>> output_size([enlargement("resize", 8)], 4), output_size([enlargement("resize", 3)], 4)
      (32, 12)
    """
    margin, more = divmod(factor, 2)
    return Layer(name, 2 * factor - more, factor, margin, transposed=True)


def resizing(name: str, factor: int, remainder: int) -> Layer:
    """What bilinear interpolation does to sides that leave a remainder of 1, or of 0.

    Args:
      name: of the layer.
      factor: pixels of the result from one pixel to the next.
      remainder: of the sides of the result, divided by the factor.

    Returns:
      `interpolation` or `enlargement`.

    Example:
      >>> resizing("resize", 4, 1).kernel, resizing("resize", 4, 0).kernel
      (7, 8)
    """
    return (interpolation if remainder else enlargement)(name, factor)
