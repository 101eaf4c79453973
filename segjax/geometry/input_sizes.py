"""Which sizes of images a network takes, along one axis, and what becomes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Which sides a network takes along one axis, and what becomes of them.

    An input side n is accepted if `n >= minimum` and `(n - offset) % stride == 0`; its
    output side is `n - 2 * margin`. A network that takes every side from the minimum on
    (because it crops or resizes its output to the image) has no offset: its tiles are
    then cut so that their sides leave the remainder that the image's own side leaves.

    Attributes:
      stride: shift in pixels under which the network is invariant.
      margin: pixels lost at each border, because convolutions are not padded.
      halo: output pixels beside a border that see the zeros padded there. They are
        right at the border of the image and wrong where a tile was cut. None says that
        every output pixel sees the whole image (a global pooling, or a resizing whose
        grid hangs on the image's size): no tiles then give what the whole image gives.
      minimum: smallest input side in pixels.
      offset: remainder of an accepted side, modulo the stride; None where every side is
        accepted.

    Example:
      >>> paper = Geometry(stride=16, margin=92, halo=0, minimum=188, offset=60)
      >>> paper.output_side(572), paper.nearest_accepted(512)
      (388, (508, 524))
    """

    stride: int
    margin: int = 0
    halo: int | None = 0
    minimum: int = 1
    offset: int | None = 0

    def __post_init__(self) -> None:
        """Refuses numbers that describe no network."""
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")
        for name in ("margin", "halo", "offset"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if self.minimum <= 2 * self.margin:
            raise ValueError(
                f"minimum must exceed 2 * margin = {2 * self.margin}, so that an "
                f"output is left, got {self.minimum}"
            )

    @property
    def tiles(self) -> bool:
        """Whether tiles can give what the whole image gives."""
        return self.halo is not None

    def accepted(self, side: int) -> bool:
        """Whether the network takes an input of this side, in pixels."""
        return side == self.next_accepted(side)

    def next_accepted(self, side: int) -> int:
        """The smallest accepted input side that is at least `side`."""
        side = max(side, self.minimum)
        return (
            side if self.offset is None else side + (self.offset - side) % self.stride
        )

    def nearest_accepted(self, side: int) -> tuple[int, int]:
        """The accepted sides around `side`: the largest `<= side`, the smallest `>=`.

        Both are `side` itself where it is accepted, and both are the smallest accepted side
        where `side` is below it.
        """
        above = self.next_accepted(side)
        below = above if above == side else above - self.stride
        return (below if self.accepted(below) else above), above

    def at(self, side: int) -> Geometry:
        """The same network on an image of this side: with an offset, and a halo."""
        minimum = self.next_accepted(side + 2 * self.margin)
        offset = minimum % self.stride if self.offset is None else self.offset
        return dataclasses.replace(self, halo=self.halo or 0, offset=offset)

    def output_side(self, side: int) -> int:
        """Output pixels of an accepted input side; raises `ValueError` otherwise."""
        self.check_input_side(side)
        return side - 2 * self.margin

    def check_image_shape(self, shape: Sequence[int]) -> None:
        """Raises `ValueError`, as `check_input_side`, for a side of `[B, H, W, C]`."""
        for axis, side in zip("HW", shape[1:3], strict=True):
            self.check_input_side(side, name=f"image {axis}")

    def check_input_side(self, side: int, name: str = "side") -> None:
        """Raises `ValueError`, naming the nearest accepted sides, if `side` is not one.

        Args:
          side: input side in pixels.
          name: what to call it in the sentence.
        """
        if self.accepted(side):
            return
        below, above = self.nearest_accepted(side)
        nearest = f"{above}" if below == above else f"{below} and {above}"
        if self.offset is None:
            raise ValueError(
                f"{name} = {side} is too small for this network: it must be at least "
                f"{self.minimum}"
            )
        raise ValueError(
            f"{name} = {side} is not a size this network takes: it must be at least "
            f"{self.next_accepted(0)} and {self.offset % self.stride} more than a "
            f"multiple of {self.stride}; nearest: {nearest}"
        )


def geometry_of(network: object) -> Geometry:
    """The geometry that a network states; one that states none is given whole images.

    Example:
      >>> geometry_of(object()).tiles
      False
    """
    return getattr(network, "geometry", Geometry(1, halo=None, offset=None))


def whole_image_geometry(
    stride: int, *, align_corners: bool, remainder: int = 1
) -> Geometry:
    """The geometry of a network whose every output pixel sees the whole image.

    Where logits are interpolated corner to corner, the corners of the image have to lie
    on the grid of the last map, on sides of one more than a multiple of the stride: on
    any other side the grid would be stretched, by up to a stride at the far border. Weights
    that were trained on such sides want them again: then the remainder is not 1. Images are mirrored up to such sides, as the authors of DeepLab fill theirs up.

    Args:
      stride: input pixels from one pixel of the last map to the next.
      align_corners: how the logits are interpolated; without aligned corners the grids
        of all sides are alike, and every side is accepted.
      remainder: of accepted sides with aligned corners, divided by the stride.

    Returns:
      Accepted sides, and no tiles.

    Example:
      >>> whole_image_geometry(16, align_corners=True).nearest_accepted(500)
      (497, 513)
    """
    if align_corners:
        minimum = stride + remainder
        return Geometry(stride, halo=None, minimum=minimum, offset=remainder)
    return Geometry(stride, halo=None, minimum=1, offset=None)
