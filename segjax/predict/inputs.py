"""Input files of a prediction: all checked before the first one, then read page by page."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segjax.data.datasets.pairing import without_labels
from segjax.data.files.calibration import Calibration
from segjax.data.files.channels import (
    Channels,
    choose,
    conversion,
    count_of,
    grey_pages_hint,
    places_of,
    require_same_names,
)
from segjax.data.files.chunks import check_chunks
from segjax.data.files.decoders import opened
from segjax.data.files.images import (
    page_name,
    read_heads,
    read_page,
    read_pages,
)
from segjax.data.files.layout import UNSTATED, Layout
from segjax.data.files.listing import list_images, other_files
from segjax.data.files.zarr import ZarrPages
from segjax.errors import UserError

log = logging.getLogger("segjax")

RGB = 3
_CHANNEL_NAMES = {1: "1 channel (grey)", 3: "3 channels (RGB)"}


@dataclass(frozen=True)
class Source:
    """An input file that was checked.

    Attributes:
      path: where it lies.
      pages: how many pages are predicted.
      height: rows of its first page, as viewers show it.
      width: columns of its first page.
      converted: whether the channels of its first page are not those of the network, but can be.
      layout: what it states of its axes, channels and physical sizes.
      chosen: places of the pages that are predicted, from 0; empty for all.
      whole: the file with all its pages, where some are chosen.
    """

    path: Path
    pages: int
    height: int
    width: int
    converted: bool = False
    layout: Layout = UNSTATED
    chosen: tuple[int, ...] = ()
    whole: Source | None = None

    def number(self, index: int) -> int:
        """The number in the file, from 1, of a page that is predicted."""
        return 1 + (self.chosen[index] if self.chosen else index)

    def only(self, chosen: tuple[int, ...]) -> Source:
        """The same file with fewer pages, which are called sections; all where none is named.

        Raises:
          UserError: it has no such page.
        """
        if not chosen:
            return self
        if max(chosen) >= self.pages:
            raise UserError(
                f"--pages asks for page {max(chosen) + 1}, but {self.path} has "
                f"{self.pages}. Give others."
            )
        # Neither the distance of sections nor that of times need be the same any more.
        calibration = Calibration(self.layout.calibration.pixel_size)
        axes = "Z" if self.layout.axes else ""
        sizes = (len(chosen),) if axes else ()
        layout = dataclasses.replace(
            self.layout, axes=axes, sizes=sizes, calibration=calibration
        )
        return dataclasses.replace(
            self, pages=len(chosen), layout=layout, chosen=chosen, whole=self
        )


def list_inputs(input: str | Path) -> list[Path]:
    """Lists the images of a file or folder, and of the folders below it.

    Labels beside them, as "a_cp_masks.tif" beside "a.tif", are left out.

    Raises:
      UserError: there are none, or labels are among them.
    """
    path = Path(input)
    if all((path / name).is_dir() for name in ("images", "labels")):
        raise UserError(
            f"{path} holds labels besides images. Give the images alone, "
            f"--input={path / 'images'}."
        )
    paths = list_images(path, nested=True)
    return paths if path.is_file() else without_labels(path, paths)


def look_at_all(
    input: str | Path,
    paths: Sequence[Path],
    channels: Channels,
    chosen: tuple[int, ...] = (),
) -> list[Source]:
    """Checks all files, and logs what is left out and what is converted.

    Args:
      input: the folder or file that was asked for.
      paths: the images in it (`list_inputs`).
      channels: how many the network was trained on, or which are chosen.
      chosen: places of the pages that are predicted of each file, from 0; empty for all.

    Returns:
      The sources, in the order of `paths`.

    Raises:
      UserError: a file is damaged, or has other channels, also than another file.
    """
    sources = [look_at(path, channels, chosen).only(chosen) for path in paths]
    require_same_names(
        {source.path: _used_names(source.layout, channels) for source in sources}
    )
    if others := other_files(input, paths):
        log.info("Left out: %s", others)
    if converted := sum(source.converted for source in sources):
        log.info("%s", conversion(converted, count_of(channels)))
    return sources


def zarr_source(path: Path) -> Source:
    """Reads what an OME-Zarr states of its size; no pixels are decoded.

    Raises:
      UserError: it is damaged.
    """
    with opened(path) as pages:
        assert isinstance(pages, ZarrPages)
        return Source(path, len(pages), *pages.size, layout=pages.layout)


def _used_names(layout: Layout, channels: Channels) -> list[str]:
    names = layout.channel_names
    return (
        [names[i] for i in places_of(channels, len(names), names, "")] if names else []
    )


def look_at(path: Path, channels: Channels, chosen: tuple[int, ...] = ()) -> Source:
    """Opens a file, decodes its first page, and checks what it and the others are.

    Args:
      path: the file.
      channels: how many the network was trained on, or which are chosen.
      chosen: places of the pages that are predicted, from 0; empty for all.

    Returns:
      The source, with all its pages.

    Raises:
      UserError: the file is damaged, or has other channels.
    """
    image = read_page(path)
    with opened(path, scan=False) as every:  # its heads follow
        pages, layout = len(every), every.layout
    in_channels(page_name(path, 0, pages), image, channels, layout.channel_names)
    others = [index for index in chosen or range(pages) if 0 < index < pages]
    with contextlib.closing(read_heads(path, others)) as heads:
        for index, head in zip(others, heads, strict=True):
            if channels == 1 and head.shape[-1] == RGB:  # is it grey? Its pixels say so
                head = read_page(path, index)
            where = page_name(path, index, pages)
            in_channels(where, head, channels, layout.channel_names)
    check_chunks(path)
    height, width = image.shape[:2]
    converted = _is_converted(image, channels)
    return Source(path, pages, height, width, converted, layout)


def channel_names(sources: Sequence[Source], channels: Channels) -> list[str]:
    """The names of channels that all files state alike; else their numbers, from 1, or as
    they were chosen. A channel that is repeated has its name again.
    """
    stated = {source.layout.channel_names for source in sources}
    names = stated.pop() if len(stated) == 1 else ()
    count = count_of(channels)
    if not isinstance(channels, int) and names:
        names = tuple(names[i] for i in places_of(channels, len(names), names, ""))
    if len(names) == count:
        return list(names)
    if all(source.converted for source in sources):
        return ["1"] * count  # grey images, repeated
    chosen = range(1, count + 1) if isinstance(channels, int) else channels
    return [*map(str, chosen)]


def _is_converted(image: np.ndarray, channels: Channels) -> bool:
    return isinstance(channels, int) and image.shape[-1] != channels


def read_source(
    source: Source, channels: Channels
) -> Generator[np.ndarray, None, None]:
    """Reads the pages of a file one after the other; none is kept in memory.

    Args:
      source: the file.
      channels: how many the network was trained on, or which are chosen.

    Yields:
      Images `[H, W, C]` with these channels.

    Raises:
      UserError: a page is damaged or has other channels, or the file has changed.
    """
    if source.chosen:
        for index in source.chosen:
            page = read_page(source.path, index)
            where = page_name(source.path, index, max(source.chosen) + 1)
            yield in_channels(where, page, channels, source.layout.channel_names)
            del page
        return
    converted = 0
    with contextlib.closing(read_pages(source.path)) as pages:
        for index in range(source.pages):
            page = _next(pages, source)
            converted += _is_converted(page, channels)
            where = page_name(source.path, index, source.pages)
            yield in_channels(where, page, channels, source.layout.channel_names)
            del page
        if next(pages, None) is not None:
            raise _changed(source)
    if converted and not source.converted:  # by its first page it was not counted
        log.info(
            "In %s, %s", source.path, conversion(converted, count_of(channels), "page")
        )


def _next(pages: Iterator[np.ndarray], source: Source) -> np.ndarray:
    page = next(pages, None)
    if page is None:
        raise _changed(source)
    return page


def _changed(source: Source) -> UserError:
    return UserError(
        f"{source.path} had {source.pages} pages at first and has another number now. Let "
        "nothing write to it, and predict again."
    )


def in_channels(
    where: str, image: np.ndarray, channels: Channels, names: Sequence[str] = ()
) -> np.ndarray:
    """Brings an image to the channels of a network.

    Args:
      where: what to call the image in a message.
      image: `[H, W, C]`.
      channels: how many the network was trained on, or which are chosen.
      names: of the image's channels, where they are known.

    Returns:
      The image with these channels.

    Raises:
      UserError: if it is in colour and the network takes grey, or has not the channels.
    """
    converted = choose(image, channels, names, where)
    if converted is not None:
        return converted
    found, wanted = image.shape[-1], count_of(channels)
    remedy = {1: "Convert it to grey", 3: "Convert it to RGB"}.get(wanted, "")
    if found not in (1, 3):
        called = f" of {', '.join(names)}" if names else ", by number from 0"
        remedy = f"Choose with --channels{called}"
    remedy += ", or take" if remedy else "Take"
    raise UserError(
        f"{where} has {_channels(found)}, but this network was trained on "
        f"{_channels(wanted)}. {remedy} a network that was trained on such "
        f"images.{grey_pages_hint(where, found, wanted)}"
    )


def _channels(count: int) -> str:
    return _CHANNEL_NAMES.get(count, f"{count} channels")
