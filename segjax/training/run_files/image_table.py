"""The table of an evaluation: one row for each image, the worst first, and what goes with it."""

from __future__ import annotations

import csv
import heapq
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.output.manifest import folded
from segjax.types import Record
from segjax.viz import palette

TABLE = "per_image.csv"
PREDICTIONS = "predictions"
"""The folder of the predictions, where they are saved."""

WORST = 8
"""Of how many images pictures are plotted."""


class ImageTable:
    """Rows of metrics of single images, and the predictions of the worst."""

    def __init__(
        self,
        records: Sequence[Record],
        columns: Sequence[str],
        plot: Callable[[Record, Any], Image.Image],
        colors: Sequence[tuple[int, int, int]] | None = None,
    ):
        """Begins with no image.

        Args:
          records: those that are measured; of the worst they are read again.
          columns: of the table, the first being "name"; others are added as they come.
          plot: makes the picture of a record and what was found in it.
          colors: of the classes, where predictions are classes; None where they are numbers.
        """
        self._records, self._plot, self._colors = records, plot, colors
        self.columns = tuple(columns)
        self._rows: list[tuple[float, dict[str, str | float]]] = []
        self._worst: list[tuple[float, int, int, Any]] = []
        self._saved: Outputs | None = None
        self._names: set[str] = set()

    def save_predictions(self, outputs: Outputs) -> None:
        """Has each prediction written when it is added, as `predictions/NAME.png`."""
        self._saved = outputs

    def add_row(
        self,
        place: int,
        name: str,
        values: Mapping[str, float],
        prediction: np.ndarray,
        goodness: float,
        found: Any = None,
    ) -> None:
        """Adds an image.

        Args:
          place: of its record.
          name: of the image.
          values: by name; those of classes and thresholds, with a / or @ in their name, are
            taken where there is a column for them.
          prediction: class ids or numbers of objects, `[H, W]`.
          goodness: the lower, the worse; NaN comes last.
          found: what is plotted instead of the prediction, if anything is.
        """
        more = [
            key
            for key in values
            if key not in self.columns and not re.search("[/@]", key)
        ]
        self.columns += tuple(more)
        row: dict[str, str | float] = {"name": name, **values}
        if self._saved is not None:
            row["prediction"] = self._save(self._saved, place, name, prediction)
        order = math.inf if math.isnan(goodness) else goodness
        self._rows.append((order, row))
        plotted = prediction if found is None else found
        heapq.heappush(self._worst, (-order, -place, place, plotted))
        if len(self._worst) > WORST:
            heapq.heappop(self._worst)

    def rows(self) -> list[dict[str, str | float]]:
        """The rows of all images, the worst first; undefined ones are last."""
        return [row for _, row in sorted(self._rows, key=lambda pair: pair[0])]

    @property
    def files(self) -> list[str]:
        """Names of the files that `write` writes."""
        return [TABLE, *self._pictures]

    @property
    def _pictures(self) -> list[str]:
        return [f"worst_{i + 1}.png" for i in range(min(len(self._records), WORST))]

    def write(self, outputs: Outputs) -> None:
        """Writes `per_image.csv`, and the pictures of the worst.

        Args:
          outputs: where to; `files` are planned.
        """
        worst = sorted(self._worst, reverse=True)
        for name, (_, _, place, prediction) in zip(self._pictures, worst, strict=True):
            picture = self._plot(self._records[place], prediction)
            with outputs.file(name) as file:
                picture.save(file, format="PNG")
        with outputs.file(TABLE) as file:
            file.write(self._csv().encode())

    def _save(
        self, outputs: Outputs, place: int, name: str, prediction: np.ndarray
    ) -> str:
        """Writes a prediction; returns its name within the folder."""
        path = f"{PREDICTIONS}/{file_name(name)}.png"
        if folded(path) in self._names:  # of another image of this name
            path = f"{path.removesuffix('.png')}_{place}.png"
        self._names.add(folded(path))
        if self._colors is not None:
            picture = Image.fromarray(prediction.astype(np.uint8))
            picture.putpalette(palette(self._colors).tobytes())
        elif prediction.max(initial=0) <= np.iinfo(np.uint16).max:
            picture = Image.fromarray(prediction.astype(np.uint16))
        else:
            raise UserError(
                f"{name} has {prediction.max()} objects, but a PNG numbers 65535: leave out "
                "--save_predictions."
            )
        with outputs.file(path) as file:
            picture.save(file, format="PNG")
        return path

    def _csv(self) -> str:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        saved = ("prediction",) * (self._saved is not None)
        columns = (*self.columns, *saved)
        table.writerow((*columns, "picture"))
        pictures = itertools.chain(self._pictures, itertools.repeat(""))
        for row, picture in zip(self.rows(), pictures, strict=False):
            cells = [_shown(row.get(column, math.nan)) for column in columns]
            table.writerow([*cells, picture])
        return text.getvalue()


def file_name(name: str) -> str:
    """The name of a record as a path within a folder, on every system.

    Example:
      >>> file_name("plate/a1"), file_name("../a:1")
      ('plate/a1', 'a_1')
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    kept = [
        re.sub(r'[\x00-\x1f<>:"|?*]', "_", x) for x in parts if x not in ("/", "..")
    ]
    return "/".join(kept) or "image"


def _shown(value: str | float) -> str:
    """A cell of the table; what is undefined is empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
