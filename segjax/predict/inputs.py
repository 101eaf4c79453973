"""Input files of a prediction: all checked before the first one, then read page by page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segjax.data.files.images import (
    conversion,
    count_pages,
    grey_pages_hint,
    page_name,
    read_layout,
    read_page,
    read_pages,
    with_channels,
)
from segjax.data.files.layout import UNSTATED, Layout
from segjax.data.files.listing import list_images, other_files
from segjax.errors import UserError

log = logging.getLogger("segjax")

_CHANNEL_NAMES = {1: "1 channel (grey)", 3: "3 channels (RGB)"}


@dataclass(frozen=True)
class Source:
    """An input file that was checked.

    Attributes:
      path: where it lies.
      pages: how many pages it has.
      height: rows of its first page, as viewers show it.
      width: columns of its first page.
      converted: whether the channels of its first page are not those of the network, but can be.
      layout: what it states of its axes, channels and physical sizes.
    """

    path: Path
    pages: int
    height: int
    width: int
    converted: bool = False
    layout: Layout = UNSTATED


def list_inputs(input: str | Path) -> list[Path]:
    """Lists the images of a file or folder, and of the folders below it.

    Raises:
      UserError: there are none, or labels are among them.
    """
    path = Path(input)
    if all((path / name).is_dir() for name in ("images", "labels")):
        raise UserError(
            f"{path} holds labels besides images. Give the images alone, "
            f"--input={path / 'images'}."
        )
    return list_images(path, nested=True)


def look_at_all(
    input: str | Path, paths: Sequence[Path], channels: int
) -> list[Source]:
    """Checks all files, and logs what is left out and what is converted.

    Args:
      input: the folder or file that was asked for.
      paths: the images in it (`list_inputs`).
      channels: that the network was trained on.

    Returns:
      The sources, in the order of `paths`.

    Raises:
      UserError: a file is damaged, or has other channels.
    """
    sources = [look_at(path, channels) for path in paths]
    if others := other_files(input, paths):
        log.info("Left out: %s", others)
    if converted := sum(source.converted for source in sources):
        log.info("%s", conversion(converted, channels))
    return sources


def look_at(path: Path, channels: int) -> Source:
    """Opens a file, decodes its first page, and checks what it is.

    Raises:
      UserError: the file is damaged, or has other channels.
    """
    image = read_page(path)
    converted = image.shape[-1] != channels
    pages = count_pages(path)
    in_channels(page_name(path, 0, pages), image, channels)
    height, width = image.shape[:2]
    return Source(path, pages, height, width, converted, read_layout(path))


def channel_names(sources: Sequence[Source], channels: int) -> list[str]:
    """The names of channels that all files state alike; else their numbers, from 1."""
    stated = {source.layout.channel_names for source in sources}
    names = stated.pop() if len(stated) == 1 else ()
    return (
        list(names) if len(names) == channels else [*map(str, range(1, channels + 1))]
    )


def read_source(source: Source, channels: int) -> Generator[np.ndarray, None, None]:
    """Reads the pages of a file one after the other; none is kept in memory.

    Args:
      source: the file.
      channels: that the network was trained on.

    Yields:
      Images `[H, W, channels]`.

    Raises:
      UserError: a page is damaged or has other channels, or the file has changed.
    """
    converted = 0
    with contextlib.closing(read_pages(source.path)) as pages:
        for index in range(source.pages):
            page = _next(pages, source)
            converted += page.shape[-1] != channels
            where = page_name(source.path, index, source.pages)
            yield in_channels(where, page, channels)
        if next(pages, None) is not None:
            raise _changed(source)
    if converted and not source.converted:  # by its first page it was not counted
        log.info("In %s, %s", source.path, conversion(converted, channels, "page"))


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


def in_channels(where: str, image: np.ndarray, channels: int) -> np.ndarray:
    """Brings an image to the channels of a network.

    Raises:
      UserError: if it is in colour and the network takes grey; `where` names the image.
    """
    converted = with_channels(image, channels)
    if converted is not None:
        return converted
    found = image.shape[-1]
    remedy = "Convert it to grey" if channels == 1 else "Convert it to RGB"
    raise UserError(
        f"{where} has {_channels(found)}, but this network was trained on "
        f"{_channels(channels)}. {remedy}, or take a network that was trained on such "
        f"images.{grey_pages_hint(where, found, channels)}"
    )


def _channels(count: int) -> str:
    return _CHANNEL_NAMES.get(count, f"{count} channels")
