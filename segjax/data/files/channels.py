"""Channels of images: as many as are wanted, or those that are chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import UserError, shown
from segjax.types import is_integer

Channels = int | tuple[int | str, ...]
"""How many channels images have, or which are chosen, by number (from 0) or by name."""

SECTIONS_HINT = (
    " If they are sections, say so: in Python with "
    'metadata={"axes": "ZYX"}, in Fiji with Image > Hyperstacks > Re-order Hyperstack.'
)
"""What to do with pages that a program has written as channels."""


def grey_pages_hint(where: str, found: int, wanted: int) -> str:
    """Says what to do with grey pages that were written as the channels of one page.

    That is what tifffile makes of an array `[3, H, W]`, and of any `[N, H, W]` for ImageJ,
    unless instructed otherwise.

    Args:
      where: the file, and the page if there are several.
      found: channels of the page.
      wanted: channels that are expected.

    Returns:
      A sentence with a space before it; nothing where it cannot be so.
    """
    if wanted != 1 or found < 2 or not re.search(r"\.tiff?\b", where.lower()):
        return ""
    if found != 3:
        return SECTIONS_HINT
    return ' If these are 3 grey pages, write them with photometric="minisblack".'


def with_channels(image: np.ndarray, channels: int) -> np.ndarray | None:
    """Gives an image as many channels as are wanted, where nothing is lost or made up.

    A grey image gets three equal channels; of three channels that are equal everywhere
    one is taken.

    Args:
      image: `[H, W, C]`.
      channels: 1 or 3.

    Returns:
      `[H, W, channels]`; None where it would have to be another image.

    Example:
      >>> with_channels(np.full((1, 1, 1), 7, np.uint8), 3).tolist()
      [[[7, 7, 7]]]
    """
    found = image.shape[-1]
    if found == channels:
        return image
    if (found, channels) == (1, 3):
        return np.repeat(image, 3, axis=-1)
    if (found, channels) == (3, 1):
        grey = image[..., :1]
        if np.array_equal(grey[..., 0], image[..., 1]) and np.array_equal(
            grey[..., 0], image[..., 2]
        ):
            return np.ascontiguousarray(grey)
    return None


def conversion(count: int, channels: int, what: str = "file") -> str:
    """Says for the log what `with_channels` did to some files, or pages of one.

    Example:
      >>> conversion(2, 3)
      '2 files are grey, where RGB is expected; their channel is repeated.'
    """
    files = f"1 {what} is" if count == 1 else f"{count} {what}s are"
    their = "its" if count == 1 else "their"
    if channels == 1:
        return (
            f"{files} RGB with three equal channels, where grey is expected; one of "
            f"{their} channels is taken."
        )
    return f"{files} grey, where RGB is expected; {their} channel is repeated."


def require_channels(channels: Any, key: str) -> Channels:
    """Checks what a user says of channels.

    Args:
      channels: a number of them, or which, by number or name.
      key: of the config, or flag, for the message.

    Returns:
      The same, a list as a tuple.

    Raises:
      UserError: if it is neither.

    Example:
      >>> require_channels(["DAPI", 2], "config.data.channels")
      ('DAPI', 2)
    """
    if is_integer(channels) and channels > 0:
        return int(channels)
    chosen = isinstance(channels, (list, tuple)) and all(
        isinstance(c, str) or (is_integer(c) and c >= 0) for c in channels
    )
    if chosen and channels:
        return tuple(channels)
    raise UserError(
        f"{key} is {shown(channels)}. Give the number of channels, such as 3, or name "
        'those that are used, such as ("DAPI", "GFP") or (0, 2).'
    )


def count_of(channels: Channels) -> int:
    """Returns the number of channels.

    Example:
      >>> count_of(3), count_of(("DAPI", "GFP"))
      (3, 2)
    """
    return channels if isinstance(channels, int) else len(channels)


def choose(
    image: np.ndarray, channels: Channels, names: Sequence[str], where: str
) -> np.ndarray | None:
    """Gives an image the channels that are wanted.

    Args:
      image: `[H, W, C]`.
      channels: how many (see `with_channels`), or which.
      names: of its channels, where they are known.
      where: what to call the image in a message.

    Returns:
      `[H, W, count_of(channels)]`; None where so many would be another image.

    Raises:
      UserError: if a channel that is chosen is not there.

    Example:
      >>> image = np.array([[[5, 6, 7]]])
      >>> choose(image, ("GFP", 0), ("DAPI", "RFP", "GFP"), "a.tif").tolist()
      [[[7, 5]]]
    """
    if isinstance(channels, int):
        return with_channels(image, channels)
    return image[..., places_of(channels, image.shape[-1], names, where)]


def places_of(
    channels: Channels, count: int, names: Sequence[str], where: str
) -> list[int]:
    """Finds the places of channels among the `count` of an image; see `choose`.

    A text that is no name of the image but a number is that number.
    """
    if isinstance(channels, int):
        return list(range(count))
    places = []
    for channel in channels:
        if channel in names:
            places.append(names.index(str(channel)))
        elif str(channel).isascii() and str(channel).isdecimal():
            if int(channel) >= count:
                many = (
                    f"{count} channels, counted" if count > 1 else "1 channel, counted"
                )
                raise UserError(
                    f"{where} has no channel {channel}: it has {many} from 0. Choose others "
                    "with config.data.channels or --channels."
                )
            places.append(int(channel))
        else:
            known = (
                f"its channels are {', '.join(names)}. Choose from these"
                if names
                else f"it names none of its {count}. Choose by number, from 0,"
            )
            raise UserError(
                f"{where} has no channel {channel!r}: {known} with config.data.channels or "
                "--channels."
            )
    return places


def require_same_names(names: Mapping[Path, Sequence[str]]) -> None:
    """Checks that the channels that are used of some files are the same ones.

    Args:
      names: of the channels that are used of each file, in their order; empty where the file
        does not name them. Files whose names have nothing in common are not compared: some
        programs name channels after files.

    Raises:
      UserError: the names of two files are partly the same.
    """
    known = {path: tuple(own) for path, own in names.items() if own}
    first, expected = next(iter(known.items()), (None, ()))
    for path, own in known.items():
        if own != expected and {*own} & {*expected}:
            raise UserError(
                f"{path} has the channels {', '.join(own)}, but {first} has "
                f"{', '.join(expected)}. Choose channels that both have, by their names, with "
                "config.data.channels or --channels."
            )
