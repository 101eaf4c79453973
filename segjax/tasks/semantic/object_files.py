"""Files of the objects that are found in pixels: numbered pages, and the table of all."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.files.zarr import is_zarr
from segjax.objects.linking import Numbering
from segjax.objects.properties import columns, object_rows
from segjax.objects.separation import Separation, separate
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source
from segjax.predict.writers import Write, page_file

log = logging.getLogger("segjax")

OBJECTS = "objects.csv"


class ObjectFiles:
    """Finds the objects of page after page, and writes them.

    Attributes:
      rows: of the table, so far.
    """

    def __init__(
        self,
        separation: Separation,
        class_names: Sequence[str],
        channel_names: Sequence[str],
        *,
        link: bool = False,
    ):
        """Takes how objects are found, names of classes and channels, and whether objects of
        neighbouring pages that overlap are one.
        """
        self._separation, self._names, self._link = separation, class_names, link
        self._channels = channel_names
        self.rows: list[tuple[Any, ...]] = []

    @contextlib.contextmanager
    def file(self, outputs: Outputs, name: str, source: Source) -> Iterator[Write]:
        """Writes the objects of a file, page by page.

        The function that this yields takes a page, `probabilities` `[H, W, K]`, and the
        image `[H, W, C]` as it is stored. Pages hold numbers of 16 bits, or of 32 where
        there are more objects; so they wait, compressed, until the last one is there.
        """
        numbering, count = Numbering(link=self._link), 0
        folder = Path(name).parents[2 if is_zarr(source.path) else 0]
        file_name = (folder / source.path.name).as_posix()
        pages: list[tuple[int, tuple[int, ...]]] = []
        largest = 0
        with tempfile.TemporaryFile() as waiting:

            def write(page: Mapping[str, np.ndarray], image: np.ndarray) -> None:
                nonlocal largest, count
                numbers = numbering(separate(page["probabilities"], self._separation))
                count += 1
                largest = max(largest, int(numbers.max(initial=0)))
                self.rows += object_rows(
                    numbers,
                    image,
                    self._classes(page["probabilities"]),
                    file=file_name,
                    page=source.number(count - 1),
                    class_names=self._names,
                    pixel_area=source.layout.calibration.pixel_area,
                )
                packed = zlib.compress(numbers.tobytes(), 1)
                waiting.write(packed)
                pages.append((len(packed), numbers.shape))

            yield write
            waiting.seek(0)
            dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
            with page_file(outputs, name, source, dtype) as write_page:
                for length, shape in pages:
                    content = zlib.decompress(waiting.read(length))
                    numbers = np.frombuffer(content, np.int32).reshape(shape)
                    write_page(numbers.astype(dtype))

    def write_table(self, outputs: Outputs) -> None:
        """Writes `objects.csv`."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns(self._channels))
        table.writerows(self.rows)
        with outputs.file(OBJECTS) as file:
            file.write(text.getvalue().encode())
        log.info("Objects found: %d", len(self.rows))

    def _classes(self, probabilities: np.ndarray) -> np.ndarray:
        """The likeliest class of each pixel that an object can have."""
        border = self._separation.border
        if border is None:
            return 1 + probabilities[..., 1:].argmax(-1)
        kept = [k for k in range(1, probabilities.shape[-1]) if k != border]
        return np.asarray(kept)[probabilities[..., kept].argmax(-1)]
