"""How far the pixels of a padded network see: what its tiles have to overlap by."""

from __future__ import annotations

import functools

from segjax.geometry.fields import Layer, input_window
from segjax.geometry.input_sizes import Geometry


@functools.cache
def padded_geometry(
    layers: tuple[Layer, ...], stride: int, minimum: int = 1
) -> Geometry:
    """The geometry of a padded network that takes images of every size.

    Tiles start at multiples of the stride but end anywhere, so the halo is what the pixel
    that looks farthest needs, wherever it lies within its stride. Looked for once for
    each network: a model asks each time that it is traced.

    Args:
      layers: of the network, up to logits at the image's size.
      stride: shift in pixels under which the network is invariant.
      minimum: smallest side in pixels.

    Returns:
      Accepted sides, and the pixels at a cut that see its padding.

    Example:
      >>> pool, up = Layer("pool", 2, 2), Layer("up", 4, 2, padding=1, transposed=True)
      >>> padded_geometry((pool, up), stride=2)
      Geometry(stride=2, margin=0, halo=2, minimum=1, offset=None)
    """
    halo = 0
    for pixel in range(stride):
        first, last = input_window(layers, pixel, pixel + 1)
        halo = max(halo, pixel - first, last - 1 - pixel)
    return Geometry(stride, margin=0, halo=halo, minimum=minimum, offset=None)


def aligned_geometry(layers: tuple[Layer, ...], stride: int) -> Geometry:
    """The geometry of a padded network whose scores are interpolated corner to corner.

    On sides of one more than a multiple of the stride, each score lies on a pixel, and
    the network is invariant under shifts by the stride.

    Args:
      layers: of the network, up to logits at the image's size.
      stride: pixels from one score to the next.

    Returns:
      Accepted sides, and the pixels at a cut that see its padding.

    Example:
      >>> from segjax.geometry.paths import interpolation
      >>> conv = Layer("conv", kernel=3, stride=8, padding=1)
      >>> aligned_geometry((conv, interpolation("resize", 8)), stride=8)
      Geometry(stride=8, margin=0, halo=8, minimum=9, offset=1)
    """
    first, last = input_window(layers, 0, stride)
    reach = max(-first, last - stride)
    halo = -(-reach // stride) * stride
    return Geometry(stride, margin=0, halo=halo, minimum=stride + 1, offset=1)
