"""Files of the objects that are found in pixels: numbered pages, and the table of all."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.files.geojson import write_geojson
from segjax.data.files.imagej_roi import write_rois
from segjax.data.files.zarr import is_zarr
from segjax.data.label_spec import LabelSpec
from segjax.data.outlines import Outline, outlines_of, place_of
from segjax.errors import UserError
from segjax.objects.linking import Numbering
from segjax.objects.properties import columns, object_rows
from segjax.objects.separation import Separation, separate
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source
from segjax.predict.writers import number_type, page_file
from segjax.tasks.semantic.page_results import PageObjects, PageResult, WriteResult

log = logging.getLogger("segjax")

OpenTable = Callable[[], contextlib.AbstractContextManager[WriteResult]]
"""Opens the rows of a file in the table of objects."""

OBJECTS = "objects.csv"

OUTLINES = {"imagej": "_RoiSet.zip", "geojson": ".geojson"}
"""Endings of files of outlines: for ImageJ's ROI manager, and for QuPath."""

_ID, _CLASS = (columns([]).index(name) for name in ("id", "class"))

_PAUSE = 20
"""Times that the table took to be written pass before it is written again."""


@dataclass(frozen=True)
class ObjectOptions:
    """Options of the objects that are written beside the classes of pixels.

    Attributes:
      separation: how they are found.
      link: whether objects of neighbouring pages that overlap are one.
      outlines: keys of `OUTLINES`, the outlines that are written, too.
    """

    separation: Separation
    link: bool = False
    outlines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the names of outlines."""
        for kind in self.outlines:
            if kind not in OUTLINES:
                raise UserError(
                    f"Outlines are written as {' or '.join(OUTLINES)}, not as {kind!r}."
                )


class ObjectFinder:
    """Finds the objects of the pages of a file, one page after the other."""

    def __init__(
        self,
        options: ObjectOptions,
        label_spec: LabelSpec,
        channels: Sequence[int],
        source: Source,
        name: str,
        factor: float = 1.0,
    ):
        """Begins a file.

        Args:
          options: how objects are found.
          label_spec: names of the classes.
          channels: places of those that are measured in the images.
          source: the file.
          name: what the table calls it.
          factor: by which its pages were magnified for the network.
        """
        self._separation = options.separation.at_scale(factor)
        self._numbering = Numbering(link=options.link)
        self._class_names = label_spec.names
        self._classes = _object_classes(options, label_spec)
        self._channels, self._source, self._name = channels, source, name

    def __call__(
        self, index: int, probabilities: np.ndarray, image: np.ndarray
    ) -> PageObjects:
        """Finds the objects of a page.

        Args:
          index: place of the page among those that are predicted, from 0.
          probabilities: `[H, W, K]`.
          image: as it is stored, `[H, W, C]`.

        Returns:
          The objects, whose numbers are those that they have in the file.
        """
        if not _follows(self._source, index):
            self._numbering.begin_anew()
        numbers = self._numbering(separate(probabilities, self._separation))
        likeliest = probabilities[..., self._classes].argmax(-1)
        rows = object_rows(
            numbers,
            image[..., self._channels],
            np.asarray(self._classes)[likeliest],
            file=self._name,
            page=self._source.number(index),
            class_names=self._class_names,
            pixel_area=self._source.layout.calibration.pixel_area,
        )
        return PageObjects(numbers, list(rows))


class ObjectFiles:
    """Files of the objects of all inputs: how each is made, and the table of all."""

    def __init__(
        self,
        options: ObjectOptions,
        label_spec: LabelSpec,
        channel_names: Sequence[str],
    ):
        """Takes how objects are found, what classes there are, and names of channels."""
        self._options, self._label_spec = options, label_spec
        first = {name: i for i, name in reversed([*enumerate(channel_names)])}
        self._channels = sorted(first.values())  # a repeated one is measured once
        self._columns = columns([channel_names[i] for i in self._channels])

    def finder(self, name: str, source: Source, factor: float = 1.0) -> ObjectFinder:
        """Makes what finds the objects of an input.

        Args:
          name: of its file of instances.
          source: the input.
          factor: by which its pages were magnified for the network.

        Returns:
          The function of its pages.
        """
        folder = Path(name).parents[2 if is_zarr(source.path) else 0]
        own = (folder / source.path.name).as_posix()
        parts = self._options, self._label_spec, self._channels
        return ObjectFinder(*parts, source, own, factor)

    @contextlib.contextmanager
    def outlines(
        self, outputs: Outputs, name: str, kind: str, source: Source
    ) -> Iterator[WriteResult]:
        """Writes the outlines of a file, when its last page is there.

        Args:
          outputs: where they belong.
          name: of the file.
          kind: a key of `OUTLINES`.
          source: the input.

        Yields:
          The function that adds a page.
        """
        found: list[Outline] = []

        def write(page: PageResult) -> None:
            assert page.objects is not None
            found.extend(_outlines(page.objects, source, page.number))

        yield write
        with outputs.file(name) as file:
            if kind == "imagej":
                write_rois(file, map(self._named, found))
            else:
                spec = self._label_spec
                colors = dict(zip(spec.names, spec.colors, strict=True))
                write_geojson(file, found, colors)

    def _named(self, outline: Outline) -> Outline:
        """An outline whose name says its class, where there are several."""
        if len(_object_classes(self._options, self._label_spec)) == 1:
            return outline
        return replace(outline, name=f"{outline.class_name}-{outline.name}")

    @contextlib.contextmanager
    def table(self, outputs: Outputs) -> Iterator[OpenTable]:
        """Writes `objects.csv`, which grows file by file.

        The function that this yields opens the rows of a file, which are in the table when it
        is closed: what an interrupted command leaves is true. Where writing a large table
        takes long, several files wait for it together.

        Args:
          outputs: where the table belongs.
        """
        text, count, is_written, next_write = io.StringIO(), 0, True, 0.0
        table = csv.writer(text, lineterminator="\n")
        table.writerow(self._columns)

        def write_table() -> None:
            nonlocal is_written
            with outputs.file(OBJECTS) as file:
                file.write(text.getvalue().encode())
            is_written = True

        @contextlib.contextmanager
        def rows_of_file() -> Iterator[WriteResult]:
            nonlocal count, is_written, next_write
            rows: list[tuple[Any, ...]] = []

            def write(page: PageResult) -> None:
                assert page.objects is not None
                rows.extend(page.objects.rows)

            yield write
            table.writerows(rows)
            count += len({row[_ID] for row in rows})
            is_written = False
            began = time.monotonic()
            if began >= next_write:
                write_table()
                ended = time.monotonic()
                next_write = ended + _PAUSE * (ended - began)

        try:
            yield rows_of_file
        finally:
            if not is_written:
                write_table()
        log.info("Objects found: %d", count)


@contextlib.contextmanager
def number_file(outputs: Outputs, name: str, source: Source) -> Iterator[WriteResult]:
    """Writes the numbers of the objects of a file.

    Pages hold numbers of 16 bits, or of 32 where there are more objects; so they wait,
    compressed, until the last one is there.

    Args:
      outputs: where the file belongs.
      name: of the file.
      source: the input.

    Yields:
      The function that adds a page.

    Raises:
      UserError: it has more objects than its format of results can number.
    """
    pages: list[tuple[int, tuple[int, ...]]] = []
    largest = 0
    with tempfile.TemporaryFile() as waiting:

        def write(page: PageResult) -> None:
            nonlocal largest
            assert page.objects is not None
            numbers = page.objects.numbers
            largest = max(largest, int(numbers.max(initial=0)))
            number_type(largest, source.path, name)  # too many for it, perhaps
            packed = zlib.compress(numbers.tobytes(), 1)
            waiting.write(packed)
            pages.append((len(packed), numbers.shape))

        yield write
        waiting.seek(0)
        dtype = number_type(largest, source.path, name)
        with page_file(outputs, name, source, dtype) as write_page:
            for length, shape in pages:
                content = zlib.decompress(waiting.read(length))
                numbers = np.frombuffer(content, np.int32).reshape(shape)
                write_page(numbers.astype(dtype))


def _object_classes(options: ObjectOptions, label_spec: LabelSpec) -> list[int]:
    """The classes but background and border."""
    border = options.separation.border
    return [k for k in range(1, label_spec.num_classes) if k != border]


def _follows(source: Source, index: int) -> bool:
    """Whether a page that is predicted is the neighbour of the one before it."""
    layout = (source.whole or source).layout
    return index > 0 and layout.follows(
        source.number(index) - 1, source.number(index - 1) - 1
    )


def _outlines(objects: PageObjects, source: Source, number: int) -> Iterator[Outline]:
    """The outlines of the objects of a page, with their classes and its place in the file."""
    class_names = {row[_ID]: row[_CLASS] for row in objects.rows}
    whole = source.whole or source
    if whole.pages == 1:
        return outlines_of(objects.numbers, class_names=class_names)
    page, place = number - 1, place_of(number - 1, whole.layout)
    return outlines_of(objects.numbers, page=page, place=place, class_names=class_names)
