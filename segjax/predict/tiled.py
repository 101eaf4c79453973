"""Predicting one image, or a stream of them, tile by tile.

Tiled output equals the output for the whole image (`segjax.geometry.tiles`), so the tile
decides memory and speed and nothing else. Neither the mirrored image nor
the output of a whole image ever exists on the device: tiles are cut from the image by
index, and what comes back is only the part of each tile that counts.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from segjax.geometry.input_sizes import Geometry
from segjax.geometry.tiles import Plan, Window, plan
from segjax.predict.heads import OUTPUTS, SOFTMAX, Head
from segjax.predict.scaled import NormalizedImage
from segjax.types import Array


@dataclasses.dataclass(frozen=True)
class Block:
    """A finished rectangle of one image.

    Attributes:
      page: position of the image in the stream, from 0.
      rows: its rows in the image.
      columns: its columns in the image.
      values: the outputs that were asked for, by name: `labels` uint8 `[h, w]`, `logits` and
        `probabilities` float32 `[h, w, K]`.
    """

    page: int
    rows: slice
    columns: slice
    values: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Tile:
    """A tile that was cut and waits for its batch, and where its output goes."""

    page: int
    pixels: np.ndarray
    rows: Window
    columns: Window


class Predictor:
    """A network that takes images of any size.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from segjax.geometry.input_sizes import Geometry
      >>> brighter = lambda image: jnp.concatenate([0.5 - image, image - 0.5], -1)
      >>> predictor = Predictor(brighter, Geometry(stride=1), tile=2)
      >>> predictor.labels(np.array([[[0.2], [0.9], [0.8]]], np.float32))
      array([[0, 1, 1]], dtype=uint8)
    """

    def __init__(
        self,
        apply: Callable[[Array], Array],
        geometry: Geometry,
        *,
        tile: int | None = None,
        batch_size: int = 1,
        sharding: jax.sharding.Sharding | None = None,
        head: Head = SOFTMAX,
    ) -> None:
        """Keeps what the predictions need; nothing is compiled yet.

        Args:
          apply: maps images `[B, H, W, C]` float32 to logits `[B, H', W', K]`, or to
            log-probabilities. Parameters should come as
            `jax.tree_util.Partial(function, variables)`: they are then arguments of
            the compiled program, while those of a closure would be copied into it.
          geometry: of that network.
          tile: output side of a tile in pixels, 0 for whole images, `None` for a tile
            that suits each image (`segjax.geometry.tiles.default_tile`).
          batch_size: tiles in one pass. Short batches are filled up, so that one tile
            shape is compiled once.
          sharding: where a batch goes, for example spread over the local devices by
            its first axis. The parameters have to be on the same devices.
          head: how logits are read.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if tile is not None and tile < 0:
            raise ValueError(f"tile must be >= 0 (0: the whole image), got {tile}")
        partial = isinstance(apply, jax.tree_util.Partial)
        self._apply = apply if partial else jax.tree_util.Partial(apply)
        self.geometry = geometry
        self.tile = tile
        self.batch_size = batch_size
        self.sharding = sharding
        self.head = head

    def labels(self, image: np.ndarray) -> np.ndarray:
        """The most probable class `[H, W]`, uint8, of an image `[H, W, C]`.

        Where classes overlap, the sum of their values (`segjax.types.class_bits`).
        """
        return self._single(image, "labels")

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probabilities `[H, W, K]`, float32, of an image `[H, W, C]`."""
        return self._single(image, "probabilities")

    def logits(self, image: np.ndarray) -> np.ndarray:
        """The logits `[H, W, K]`, float32, of an image `[H, W, C]`."""
        return self._single(image, "logits")

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Predicts a stream of images, whole pages out, one page in memory.

        Args:
          images: float32 `[H, W, C]` each, taken one by one; sizes may differ.
          outputs: keys of `OUTPUTS`.

        Yields:
          for each image, in order, an array over its pixels for each output.
        """
        sides: collections.deque[tuple[int, int]] = collections.deque()

        def noted() -> Iterator[NormalizedImage]:
            for image in images:
                check_image(image)
                sides.append((image.shape[0], image.shape[1]))
                yield image
                del image  # Or it would live on while the next one is read.

        page: dict[str, np.ndarray] = {}
        for block in self.blocks(noted(), outputs):
            height, width = sides[0]
            for form, values in block.values.items():
                if form not in page:
                    shape = (height, width, *values.shape[2:])
                    page[form] = np.empty(shape, values.dtype)
                page[form][block.rows, block.columns] = values
            if (block.rows.stop, block.columns.stop) == (height, width):
                finished, page = page, {}
                sides.popleft()
                yield finished

    def blocks(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[Block]:
        """Predicts a stream of images, tile by tile, for a caller that writes as it goes.

        Batches run across images, so that small pages fill them, too. While one batch
        is fetched, the next is already being computed.

        Args:
          images: float32 `[H, W, C]` each, taken one by one; sizes may differ.
          outputs: keys of `OUTPUTS`.

        Yields:
          blocks: images in order, rows of tiles in order, tiles from left to right.
          They cover each pixel exactly once.
        """
        unknown = set(outputs) - set(OUTPUTS)
        if unknown or not outputs:
            raise ValueError(
                f"outputs must be some of {sorted(OUTPUTS)}, got {outputs!r}"
            )
        outputs = tuple(outputs)
        flying: collections.deque[tuple[list[_Tile], dict[str, Array]]]
        flying = collections.deque()
        for tiles in self._batches(images):
            flying.append((_without_pixels(tiles), self._dispatch(tiles, outputs)))
            if len(flying) > 1:
                yield from _fetch(*flying.popleft())
        while flying:
            yield from _fetch(*flying.popleft())

    def _single(self, image: np.ndarray, form: str) -> np.ndarray:
        return next(self.pages([image], (form,)))[form]

    def _batches(self, images: Iterable[NormalizedImage]) -> Iterator[list[_Tile]]:
        """Tiles of one shape, `batch_size` of them or fewer at a change of shape."""
        waiting: list[_Tile] = []
        for tile in self._cut(images):
            if waiting and waiting[0].pixels.shape != tile.pixels.shape:
                yield waiting
                waiting = []
            waiting.append(tile)
            if len(waiting) == self.batch_size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _cut(self, images: Iterable[NormalizedImage]) -> Iterator[_Tile]:
        numbers = itertools.count()  # `enumerate` would hold on to the last image.
        for image in images:
            page = next(numbers)
            check_image(image)
            down, across = self._plans(image)
            columns = [across.source(window) for window in across.windows]
            for row in down.windows:
                rows = down.source(row)[:, None]
                for column, source in zip(across.windows, columns, strict=True):
                    yield _Tile(page, image[rows, source], row, column)
            del image

    def _plans(self, image: NormalizedImage) -> tuple[Plan, Plan]:
        height, width = image.shape[:2]
        down = plan(self.geometry, height, self.tile)
        across = plan(self.geometry, width, self.tile)
        return down, across

    def _dispatch(
        self, tiles: list[_Tile], outputs: tuple[str, ...]
    ) -> dict[str, Array]:
        """Starts the computation of a batch and the way back of its results."""
        shape = tiles[0].pixels.shape
        # New for each batch: the device may read from it while the next is filled.
        batch = np.zeros((self.batch_size, *shape), np.float32)
        for slot, tile in zip(batch, tiles, strict=False):
            slot[...] = tile.pixels
        images = jax.device_put(batch, self.sharding)
        values = _answer(_logits(self._apply, images), outputs, self.head)
        expected = tuple(side - 2 * self.geometry.margin for side in shape[:2])
        for value in values.values():
            if value.shape[1:3] != expected:
                raise ValueError(
                    f"apply maps tiles of {shape[:2]} pixels to {value.shape[1:3]}, "
                    f"its geometry says {expected}"
                )
            value.copy_to_host_async()
        return values


@jax.jit
def _logits(apply: jax.tree_util.Partial, images: Array) -> Array:
    """The network, compiled once for all outputs that are asked of it."""
    return apply(images)


@jax.jit(static_argnums=(1, 2))
def _answer(logits: Array, outputs: tuple[str, ...], head: Head) -> dict[str, Array]:
    return head.outputs(logits, outputs)


def _fetch(tiles: list[_Tile], values: dict[str, Array]) -> Iterator[Block]:
    fetched = jax.device_get(values)
    for i, tile in enumerate(tiles):
        part = {
            form: value[i, tile.rows.trusted, tile.columns.trusted]
            for form, value in fetched.items()
        }
        yield Block(tile.page, tile.rows.target, tile.columns.target, part)


def _without_pixels(tiles: list[_Tile]) -> list[_Tile]:
    """The same tiles without their input, which is on the device by now."""
    nothing = np.empty(0)
    return [dataclasses.replace(tile, pixels=nothing) for tile in tiles]


def check_image(image: NormalizedImage) -> None:
    """Raises `ValueError` if an image is not `[H, W, C]` in floating point."""
    if image.ndim != 3 or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"image must be [H, W, C], normalised, in floating point, got "
            f"{image.dtype} of shape {image.shape}"
        )
    if 0 in image.shape:
        raise ValueError(f"image must not be empty, got shape {image.shape}")
