"""Labels of the user's folders, whatever they are kept as: numbers, colours or outlines.

Numbers of pixels are read as they are stored. Outlines (`OUTLINE_SUFFIXES`) are filled: with
the stored value of their class, or with numbers where the numbers of objects are wanted; later
ones cover earlier ones.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segjax.data.datasets.label_meanings import ColorLabels, Meaning
from segjax.data.datasets.pairing import Pair
from segjax.data.files.geojson import read_geojson
from segjax.data.files.imagej_roi import read_rois
from segjax.data.files.images import (
    count_pages,
    read_label,
    read_label_pages,
    read_page,
    read_palette,
    with_channels,
)
from segjax.data.files.listing import OUTLINE_SUFFIXES
from segjax.data.instance_labels import InstanceLabels
from segjax.data.label_spec import LabelSpec
from segjax.data.outlines import Outline, fill
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

_NUMBERED = re.compile(r"-\d+$")
"""What ImageJ adds to a name that is there already."""

_IGNORED = "ignore*"
"""The class of QuPath for what does not count, in small letters."""

Size = tuple[int, int]


def count_pages_of(pair: Pair) -> int:
    """Counts the pages of an image, which are those of its label, where it has one.

    Raises:
      UserError: the two differ, or a file is damaged.
    """
    count = count_pages(pair.image)
    if pair.label is None:
        return count
    if _has_outlines(pair.label):
        pages = [x.page for x in _outlines(pair.label) if x.page is not None]
        if (last := max(pages, default=0)) >= count:
            raise UserError(
                f"{pair.label} has an outline on page {last + 1}, but {pair.image} has "
                f"{_pages(count)}. Give each image the file that was made for it."
            )
    elif (of_label := count_pages(pair.label)) != count:
        raise UserError(
            f"{pair.label} has {_pages(of_label)}, but {pair.image} has {_pages(count)}. "
            "Give every page its label."
        )
    return count


@contextlib.contextmanager
def opened_label(
    path: Path, meaning: Meaning
) -> Iterator[Callable[[Size], np.ndarray]]:
    """Opens a label file, to read its pages one after the other.

    Args:
      path: the file.
      meaning: what it is read for.

    Yields:
      A function that takes the size of the next image and returns its label, as `read_raw`.
    """
    if _has_outlines(path) or isinstance(meaning, ColorLabels):
        pages = itertools.count()
        yield lambda size: read_raw(path, next(pages), size, meaning)
        return
    with contextlib.closing(read_label_pages(path)) as labels:
        yield lambda size: next(labels)


def read_raw(path: Path, index: int, size: Size, meaning: Meaning) -> np.ndarray:
    """Reads one page of a label, for its meaning to turn into class ids.

    Args:
      path: the file.
      index: of the page.
      size: `(height, width)` of the image, which outlines are filled in.
      meaning: what the label is read for.

    Returns:
      Stored values `[H, W]`, or colours `[H, W, 3]`.

    Raises:
      UserError: the file is damaged or does not fit, or an outline is empty, outside of the
        image, or of no class.
    """
    if _has_outlines(path):
        return _painted(path, index, size, meaning)
    if not isinstance(meaning, ColorLabels):
        return read_label(path, index)
    if (palette := read_palette(path)) is not None:
        return palette[read_label(path, index)]
    colors = with_channels(read_page(path, index), 3)
    if colors is None or colors.dtype != np.uint8:
        raise UserError(
            f"{path} is not a picture in colours of 8 bits. Save it as RGB."
        )
    return colors


def _painted(path: Path, index: int, size: Size, meaning: Meaning) -> np.ndarray:
    """Fills the outlines of a page."""
    label = np.zeros(size, np.int32)
    value_of = _values(meaning)
    for number, outline in enumerate(_outlines(path), 1):
        if outline.page is None or outline.page == index:
            place, mask = fill(outline, size, str(path))
            value = number if value_of is None else value_of(outline, path)
            label[place][mask] = value
    if not isinstance(meaning, ColorLabels):
        return label
    return np.asarray(meaning.spec.colors, np.uint8)[label]


def _values(meaning: Meaning) -> Callable[[Outline, Path], int] | None:
    """What tells the stored value of an outline's class; None where numbers are wanted."""
    if isinstance(meaning, InstanceLabels):
        return None
    if isinstance(meaning, ColorLabels):
        names = meaning.spec.names
        stored: dict[str, int] = {name: k for k, name in enumerate(names)}
    else:
        assert isinstance(meaning, LabelSpec)
        names = meaning.names
        ids = enumerate(map(meaning.stored_value, range(len(names))))
        stored = {names[k]: value for k, value in ids if value is not None}
        if (ignored := meaning.stored_value(IGNORE_LABEL)) is not None:
            stored[_IGNORED] = ignored
    values = {name.casefold(): value for name, value in stored.items()}

    def value_of(outline: Outline, path: Path) -> int:
        own = outline.class_name or _NUMBERED.sub("", outline.name)
        if (value := values.get(own.casefold())) is not None:
            return value
        if outline.class_name is None and len(names) == 2:
            return stored[names[1]]  # a place or number is the name of most ROIs
        what = "its class" if outline.class_name else "it"
        raise UserError(
            f"{path} has the outline {outline.name!r}; {what} is called {own!r}, but the "
            f"classes are {', '.join(names)}. Rename it there, or add its class to "
            "config.data.classes."
        )

    return value_of


def _has_outlines(path: Path) -> bool:
    return path.suffix.lower() in OUTLINE_SUFFIXES


def _outlines(path: Path) -> list[Outline]:
    """Reads outlines, of files that were read just before from memory."""
    status = path.stat()
    return _read_outlines(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _read_outlines(path: Path, *state: int) -> list[Outline]:
    del state  # another file at the same path is read anew
    geojson = path.suffix.lower() == OUTLINE_SUFFIXES[-1]
    return read_geojson(path) if geojson else read_rois(path)


def _pages(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"
