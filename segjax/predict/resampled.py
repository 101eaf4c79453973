"""Networks that were trained on larger or smaller pixels than the files have: there and back.

Where `config.data.downscale` made training images smaller, the objects of a full-size
photograph are too large for the network by that factor. So the photograph is reduced by the
same factor, and the output is enlarged to the size of the photograph. A reduced pixel lies
at the middle of its block; the labels of training, which take one pixel of each block, are
at most half a pixel of the photograph away from there. Where files state the size of their
pixels (`segjax.data.files.calibration`), they can be brought to that of the training images.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from segjax.data.downscale import area_average
from segjax.data.files.calibration import size_in_words
from segjax.errors import UserError
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.heads import SOFTMAX, Head
from segjax.predict.inputs import Source
from segjax.types import Array

log = logging.getLogger("segjax")

_UNLIKE = 1.5
"""Pixels that differ by more than this factor look like other objects to a network."""

_LARGEST_ZOOM = 16.0
_LINEAR = Image.Resampling.BILINEAR

PixelSize = tuple[float, float]
"""Height and width of a pixel, micrometres."""


@dataclass(frozen=True)
class Resampling:
    """Brings images to the scale of training, and answers to that of the images.

    Attributes:
      downscale: side of the blocks of pixels that are averaged, after the zoom; blocks that
        reach beyond the image see its last row and column again.
      zoom: by which images are magnified along rows and columns.

    Example:
      >>> Resampling(2)(np.array([[[0], [2], [5]]], np.uint8)).ravel().tolist()
      [1, 5]
    """

    downscale: int = 1
    zoom: tuple[float, float] = (1.0, 1.0)

    @property
    def factor(self) -> float:
        """By how much images are magnified, sides in the mean; below 1 for smaller ones."""
        height, width = self.zoom
        return math.sqrt(height * width) / self.downscale

    @property
    def is_none(self) -> bool:
        """Whether images stay as they are."""
        return self == Resampling()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resamples an image `[H, W, C]` as it was stored; its type stays."""
        height, width = image.shape[:2]
        image = _resized(image, self._zoomed((height, width)))
        if self.downscale == 1:
            return image
        rest = [(0, -side % self.downscale) for side in image.shape[:2]]
        padded = np.pad(image, (*rest, (0, 0)), mode="edge")
        return area_average(padded, self.downscale)

    def answer(
        self,
        page: Mapping[str, np.ndarray],
        size: tuple[int, ...],
        outputs: Sequence[str],
        head: Head = SOFTMAX,
    ) -> dict[str, np.ndarray]:
        """Enlarges logits bilinearly to the pixels of the image that was resampled.

        Args:
          page: with `logits` `[h, w, K]`.
          size: height and width of the image as it was stored.
          outputs: keys of `segjax.predict.heads.OUTPUTS`.
          head: how logits are read.

        Returns:
          An array `[H, W]` or `[H, W, K]` for each output.
        """
        height, width = size
        rows, columns = (
            round(side * count * self.downscale / zoomed)  # blocks may reach beyond it
            for side, count, zoomed in zip(
                (height, width),
                page["logits"].shape,
                self._zoomed((height, width)),
                strict=False,
            )
        )
        asked = tuple(outputs)
        found = _answer(page["logits"], (rows, columns), (height, width), asked, head)
        return jax.device_get(found)

    def _zoomed(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (
            max(1, round(side * zoom))
            for side, zoom in zip(size, self.zoom, strict=True)
        )
        return height, width


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolates linearly; of what gets smaller, all pixels count."""
    if image.shape[:2] == size:
        return image
    height, width = size
    planes = [
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize((width, height), _LINEAR)
        )
        for plane in np.moveaxis(image, -1, 0)
    ]
    found = np.stack(planes, -1)
    if image.dtype.kind not in "iu":
        return found.astype(image.dtype)
    limits = np.iinfo(image.dtype)  # float32 rounds beyond the largest of 32 bits
    rounded = np.rint(found.astype(np.float64))
    return np.clip(rounded, limits.min, limits.max).astype(image.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _answer(
    logits: Array,
    whole: tuple[int, int],
    size: tuple[int, int],
    outputs: tuple[str, ...],
    head: Head,
) -> dict[str, Array]:
    large = resize_bilinear(logits[None], size=whole)
    return head.outputs(large[0, : size[0], : size[1]], outputs)


def resamplings(
    sources: Sequence[Source],
    downscale: int,
    trained_on: PixelSize | None,
    *,
    rescale: bool,
) -> dict[Path, Resampling]:
    """Chooses how the pages of each file are resampled.

    Args:
      sources: the files.
      downscale: factor of the training images.
      trained_on: size of the pixels of the training images as they are stored; None where
        they state none.
      rescale: whether images are brought to that size. If not, a warning says where they
        differ much.

    Returns:
      One for each file.

    Raises:
      UserError: if a size is asked for that is not stated, or differs too much.
    """
    if not rescale:
        _warn_of_other_pixels(sources, trained_on)
        return {source.path: Resampling(downscale) for source in sources}
    if trained_on is None:
        raise UserError(
            "The images that this network was trained on state no size of their pixels, so "
            "--rescale has no aim. Leave it out."
        )
    found = {}
    for source in sources:
        size = source.layout.calibration.pixel_size
        if size is None:
            raise UserError(
                f"{source.path} does not state the size of its pixels, which --rescale "
                "needs. Set it in Fiji (Image > Properties), save as TIFF, or leave "
                "--rescale out."
            )
        zoom = _ratios(size, trained_on)
        if not 1 / _LARGEST_ZOOM <= min(zoom) <= max(zoom) <= _LARGEST_ZOOM:
            raise UserError(
                f"{source.path} has pixels of {size_in_words(size)}, and the training images have "
                f"{size_in_words(trained_on)}: more than {_LARGEST_ZOOM:g} times apart. Check "
                "both sizes, or leave --rescale out."
            )
        found[source.path] = Resampling(downscale, zoom)
    return found


def _warn_of_other_pixels(
    sources: Sequence[Source], trained_on: PixelSize | None
) -> None:
    if trained_on is None:
        return
    unlike = []
    for source in sources:
        size = source.layout.calibration.pixel_size
        if size is not None:
            ratios = _ratios(size, trained_on)
            if not 1 / _UNLIKE <= min(ratios) <= max(ratios) <= _UNLIKE:
                unlike.append((source.path, size))
    if not unlike:
        return
    path, size = unlike[0]
    others = f" (and {len(unlike) - 1} more such files)" if len(unlike) > 1 else ""
    log.warning(
        "%s has pixels of %s, but the training images have %s%s. Objects look smaller or "
        "larger to the network than those it knows: --rescale brings the images to the "
        "size of training.",
        path,
        size_in_words(size),
        size_in_words(trained_on),
        others,
    )


def _ratios(size: PixelSize, other: PixelSize) -> tuple[float, float]:
    return size[0] / other[0], size[1] / other[1]
