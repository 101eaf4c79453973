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
    read_layout,
    read_page,
    read_palette,
    with_channels,
)
from segjax.data.files.layout import UNSTATED
from segjax.data.files.listing import OUTLINE_SUFFIXES
from segjax.data.instance_labels import InstanceLabels
from segjax.data.label_spec import LabelSpec
from segjax.data.outlines import Outline, fill, page_of
from segjax.data.overlapping_classes import OverlappingClasses
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
        if (last := max((page or 0 for page, _ in _placed(pair)), default=0)) >= count:
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
    pair: Pair, meaning: Meaning
) -> Iterator[Callable[[Size], np.ndarray]]:
    """Opens the label of a pair, to read its pages one after the other.

    Args:
      pair: the files, of which the label is there.
      meaning: what it is read for.

    Yields:
      A function that takes the size of the next image and returns its label, as `read_raw`.
    """
    assert pair.label is not None
    if _has_outlines(pair.label) or isinstance(meaning, ColorLabels):
        pages = itertools.count()
        yield lambda size: read_raw(pair, next(pages), size, meaning)
        return
    with contextlib.closing(read_label_pages(pair.label)) as labels:
        yield lambda size: next(labels)


def read_raw(pair: Pair, index: int, size: Size, meaning: Meaning) -> np.ndarray:
    """Reads one page of a label, for its meaning to turn into class ids.

    Args:
      pair: the files, of which the label is there.
      index: of the page.
      size: `(height, width)` of the image, which outlines are filled in.
      meaning: what the label is read for.

    Returns:
      Stored values `[H, W]`, or colours `[H, W, 3]`.

    Raises:
      UserError: the file is damaged or does not fit, or an outline is empty, outside of the
        image, or of no class.
    """
    path = pair.label
    assert path is not None
    if _has_outlines(path):
        return _painted(pair, index, size, meaning)
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


def _painted(pair: Pair, index: int, size: Size, meaning: Meaning) -> np.ndarray:
    """Fills the outlines of a page."""
    label = np.zeros(size, np.int32)
    value_of, where = _values(meaning), str(pair.label)
    for number, (page, outline) in enumerate(_placed(pair), 1):
        if page is None or page == index:
            value = number if value_of is None else value_of(outline, where)
            if value_of is None and _class_of(outline).casefold() == _IGNORED:
                raise _no_ignore(
                    outline,
                    where,
                    "numbers of objects have no value for that. Remove it",
                )
            place, mask = fill(outline, size, where)
            if isinstance(meaning, OverlappingClasses):
                value |= label[place][mask]
            label[place][mask] = value
    if not isinstance(meaning, ColorLabels):
        return label
    return np.array([*meaning.spec.colors, *meaning.ignored[:1]], np.uint8)[label]


def _values(meaning: Meaning) -> Callable[[Outline, str], int] | None:
    """What tells the stored value of an outline's class; None where numbers are wanted."""
    if isinstance(meaning, InstanceLabels):
        return None
    if isinstance(meaning, ColorLabels):
        names, key = meaning.spec.names, "ignored_colors"
        stored: dict[str, int] = {name: k for k, name in enumerate(names)}
        if meaning.ignored:
            stored[_IGNORED] = len(names)
    else:
        assert isinstance(meaning, LabelSpec)
        names, key = meaning.names, "ignore"
        ids = enumerate(map(meaning.stored_value, range(len(names))))
        stored = {names[k]: value for k, value in ids if value is not None}
        if (ignored := meaning.stored_value(IGNORE_LABEL)) is not None:
            stored[_IGNORED] = ignored
    values = {name.casefold(): value for name, value in stored.items()}

    def value_of(outline: Outline, where: str) -> int:
        own = _class_of(outline)
        if (value := values.get(own.casefold())) is not None:
            return value
        if own.casefold() == _IGNORED:
            remedy = f"no value stands for that. Set config.data.{key}, or remove it"
            raise _no_ignore(outline, where, remedy)
        if outline.class_name is None and len(names) == 2:
            return stored[names[1]]  # a place or number is the name of most ROIs
        what = "its class" if outline.class_name else "it"
        raise UserError(
            f"{where} has the outline {outline.name!r}; {what} is called {own!r}, but the "
            f"classes are {', '.join(names)}. Rename it there, or add its class to "
            "config.data.classes."
        )

    return value_of


def _class_of(outline: Outline) -> str:
    """What an outline is called, or its class where the file says it."""
    return outline.class_name or _NUMBERED.sub("", outline.name)


def _no_ignore(outline: Outline, where: str, remedy: str) -> UserError:
    return UserError(
        f"{where} has the outline {outline.name!r} of QuPath's class Ignore*, which does "
        f"not count, but {remedy}."
    )


def _has_outlines(path: Path) -> bool:
    return path.suffix.lower() in OUTLINE_SUFFIXES


def _placed(pair: Pair) -> list[tuple[int | None, Outline]]:
    """The outlines of a pair with their pages; of files that were just read, from memory."""
    assert pair.label is not None
    status, where = pair.label.stat(), str(pair.label)
    outlines = _read_outlines(pair.label, status.st_mtime_ns, status.st_size)
    layout = UNSTATED
    if any(outline.place not in (None, (0, 0)) for outline in outlines):
        layout = read_layout(pair.image)
    return [(page_of(outline, layout, where), outline) for outline in outlines]


@functools.lru_cache(maxsize=16)
def _read_outlines(path: Path, *state: int) -> list[Outline]:
    del state  # another file at the same path is read anew
    geojson = path.suffix.lower() == OUTLINE_SUFFIXES[-1]
    return read_geojson(path) if geojson else read_rois(path)


def _pages(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"
