"""Files of the objects that are found in pixels: numbered pages, and the table of all."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.files.geojson import write_geojson
from segjax.data.files.imagej_roi import write_rois
from segjax.data.files.zarr import is_zarr
from segjax.data.label_spec import LabelSpec
from segjax.data.outlines import Outline, outlines_of, place_of
from segjax.objects.linking import Numbering
from segjax.objects.properties import columns, object_rows
from segjax.objects.separation import Separation, separate
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source
from segjax.predict.writers import Write, number_type, page_file

log = logging.getLogger("segjax")

OBJECTS = "objects.csv"

OUTLINES = {"imagej": "_RoiSet.zip", "geojson": ".geojson"}
"""Endings of files of outlines: for ImageJ's ROI manager, and for QuPath."""

_PAUSE = 20
"""Times that the table took to be written pass before it is written again."""


@dataclass(frozen=True)
class ObjectOptions:
    """Options of the objects that are written beside the classes of pixels.

    Attributes:
      separation: how they are found.
      link: whether objects of neighbouring pages that overlap are one.
      outlines: a key of `OUTLINES` where outlines are written, too.
    """

    separation: Separation
    link: bool = False
    outlines: str | None = None


class ObjectFiles:
    """Finds the objects of page after page, and writes them."""

    def __init__(
        self,
        options: ObjectOptions,
        label_spec: LabelSpec,
        channel_names: Sequence[str],
    ):
        """Takes how objects are found, what classes there are, and names of channels."""
        self._options, self._label_spec = options, label_spec
        self._rows: list[tuple[Any, ...]] = []  # of the file that is being written
        self._text = io.StringIO()
        self._table = csv.writer(self._text, lineterminator="\n")
        first = {name: i for i, name in reversed([*enumerate(channel_names)])}
        self._channels = sorted(first.values())  # a repeated one is measured once
        self._table.writerow(columns([channel_names[i] for i in self._channels]))
        self._count, self._is_written, self._next_write = 0, True, 0.0

    @contextlib.contextmanager
    def file(
        self,
        outputs: Outputs,
        names: Mapping[str, str],
        source: Source,
        factor: float = 1.0,
    ) -> Iterator[Write]:
        """Writes the objects of a file, page by page.

        The function that this yields takes a page, `probabilities` `[H, W, K]`, and the
        image `[H, W, C]` as it is stored. Pages hold numbers of 16 bits, or of 32 where
        there are more objects; so they wait, compressed, until the last one is there.

        Args:
          outputs: where the files belong.
          names: of the files "instances" and, where they are wanted, "outlines".
          source: the file that they are found in.
          factor: by which its pages were magnified for the network.

        Raises:
          UserError: it has more objects than its format of results can number.
        """
        name = names["instances"]
        separation = self._options.separation.at_scale(factor)
        numbering, count = Numbering(link=self._options.link), 0
        outlines: list[Outline] = []
        self._rows = []
        folder = Path(name).parents[2 if is_zarr(source.path) else 0]
        file_name = (folder / source.path.name).as_posix()
        pages: list[tuple[int, tuple[int, ...]]] = []
        largest = 0
        with tempfile.TemporaryFile() as waiting:

            def write(page: Mapping[str, np.ndarray], image: np.ndarray) -> None:
                nonlocal largest, count
                if not _follows(source, count):
                    numbering.begin_anew()
                numbers = numbering(separate(page["probabilities"], separation))
                count += 1
                largest = max(largest, int(numbers.max(initial=0)))
                number_type(largest, source.path, name)  # too many for it, perhaps
                rows = object_rows(
                    numbers,
                    image[..., self._channels],
                    self._classes(page["probabilities"]),
                    file=file_name,
                    page=source.number(count - 1),
                    class_names=self._label_spec.names,
                    pixel_area=source.layout.calibration.pixel_area,
                )
                self._rows += rows
                if "outlines" in names:
                    outlines.extend(_outlines(numbers, rows, source, count - 1))
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
        if "outlines" in names:
            self._write_outlines(outputs, names["outlines"], outlines)

    def _write_outlines(
        self, outputs: Outputs, name: str, outlines: Sequence[Outline]
    ) -> None:
        with outputs.file(name) as file:
            if self._options.outlines == "imagej":
                write_rois(file, map(self._named, outlines))
            else:
                spec = self._label_spec
                write_geojson(
                    file, outlines, dict(zip(spec.names, spec.colors, strict=True))
                )

    def _named(self, outline: Outline) -> Outline:
        """An outline whose name says its class, where there are several."""
        if len(self._object_classes) == 1:
            return outline
        return replace(outline, name=f"{outline.class_name}-{outline.name}")

    @contextlib.contextmanager
    def table(self, outputs: Outputs) -> Iterator[Callable[[], None]]:
        """Writes `objects.csv`, which grows file by file.

        The function that this yields is called when all results of a file are there, whose
        objects are in the table then, too: what an interrupted command leaves is true.
        Where writing a large table takes long, several files wait for it together.

        Args:
          outputs: where the table belongs.
        """

        def add_file() -> None:
            self._table.writerows(self._rows)
            self._count += len({row[columns([]).index("id")] for row in self._rows})
            self._rows, self._is_written = [], False
            began = time.monotonic()
            if began >= self._next_write:
                self._write_table(outputs)
                ended = time.monotonic()
                self._next_write = ended + _PAUSE * (ended - began)

        try:
            yield add_file
        finally:
            if not self._is_written:
                self._write_table(outputs)
        log.info("Objects found: %d", self._count)

    def _write_table(self, outputs: Outputs) -> None:
        with outputs.file(OBJECTS) as file:
            file.write(self._text.getvalue().encode())
        self._is_written = True

    def _classes(self, probabilities: np.ndarray) -> np.ndarray:
        """The likeliest class of each pixel that an object can have."""
        kept = self._object_classes
        return np.asarray(kept)[probabilities[..., kept].argmax(-1)]

    @property
    def _object_classes(self) -> list[int]:
        """The classes but background and border."""
        border = self._options.separation.border
        return [k for k in range(1, self._label_spec.num_classes) if k != border]


def _follows(source: Source, index: int) -> bool:
    """Whether a page that is predicted is the neighbour of the one before it."""
    layout = (source.whole or source).layout
    return index > 0 and layout.follows(
        source.number(index) - 1, source.number(index - 1) - 1
    )


def _outlines(
    numbers: np.ndarray, rows: Sequence[Sequence[Any]], source: Source, index: int
) -> Iterator[Outline]:
    """The outlines of the objects of a page, with their classes and its place in the file."""
    id_, class_ = columns([]).index("id"), columns([]).index("class")
    class_names = {row[id_]: row[class_] for row in rows}
    whole = source.whole or source
    if whole.pages == 1:
        return outlines_of(numbers, class_names=class_names)
    page = source.number(index) - 1
    place = place_of(page, whole.layout)
    return outlines_of(numbers, page=page, place=place, class_names=class_names)
