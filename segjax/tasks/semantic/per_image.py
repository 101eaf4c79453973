"""The table of an evaluation: one row for each image, the worst first."""

from __future__ import annotations

import collections
import csv
import heapq
import io
import itertools
import math
from collections.abc import Sequence

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.metrics import (
    boundary_counts,
    boundary_metrics,
    matching_metrics,
    semantic_metrics,
    surface_counts,
    surface_metrics,
)
from segjax.output.folder import Outputs
from segjax.types import IGNORE_LABEL, Record
from segjax.viz import comparison

TABLE = "per_image.csv"
WORST = 8
"""Of how many images pictures are plotted."""

OBJECT_COLUMNS = ("true_objects", "found_objects", "f1@0.5", "panoptic_quality@0.5")


class PerImage:
    """Rows of metrics of single images, and the predictions of the worst.

    The worst are those of the lowest mean IoU. Their predictions, which the pictures
    show, are kept; those of the others are not.
    """

    def __init__(
        self,
        records: Sequence[Record],
        label_spec: LabelSpec,
        *,
        objects: bool = False,
    ):
        """Begins with no image.

        Args:
          records: those that are measured; of the worst they are read again.
          label_spec: names and colours of the classes.
          objects: whether objects are measured, too, and have columns.
        """
        names = label_spec.names
        self._records, self._spec = records, label_spec
        self.columns = (
            *("name", "pixels", "mean_iou", *(f"iou/{name}" for name in names)),
            *("mean_dice", *(f"dice/{name}" for name in names)),
            *("surface_distance", "hausdorff_95", "boundary_f1"),
            *(OBJECT_COLUMNS if objects else ()),
        )
        self._rows: list[dict[str, str | float]] = []
        self._worst: list[tuple[float, int, int, np.ndarray]] = []
        self._expected: collections.deque[tuple[int, str]] = collections.deque()

    def expect(self, place: int, record: Record) -> None:
        """Notes whose prediction is added next but those that are expected already."""
        self._expected.append((place, record["name"]))

    def add(
        self,
        label: np.ndarray,
        prediction: np.ndarray,
        counts: np.ndarray,
        matching: np.ndarray | None = None,
    ) -> None:
        """Adds the oldest image that is expected.

        Args:
          label: class ids `[H, W]`.
          prediction: the same of the network.
          counts: its confusion counts, `[K, K]`.
          matching: `matching_counts` of its objects, `[T, 4]`, where they are measured.
        """
        place, name = self._expected.popleft()
        classes, names = self._spec.num_classes, self._spec.names
        surface = surface_counts(label, prediction, num_classes=classes)
        boundary = boundary_counts(label, prediction, num_classes=classes)
        values = (
            semantic_metrics(counts, names)
            | surface_metrics(surface, names)
            | boundary_metrics(boundary, names)
        )
        if matching is not None:
            right, invented, missed, _ = matching[0]
            values |= matching_metrics([matching])
            values |= {
                "true_objects": int(right + missed),
                "found_objects": int(right + invented),
            }
        values |= {"pixels": int((label != IGNORE_LABEL).sum())}
        row = {column: values.get(column, math.nan) for column in self.columns}
        self._rows.append(row | {"name": name})
        badness = -_order(values["mean_iou"])
        heapq.heappush(self._worst, (badness, -place, place, prediction))
        if len(self._worst) > WORST:
            heapq.heappop(self._worst)

    def rows(self) -> list[dict[str, str | float]]:
        """The rows of all images, the lowest mean IoU first; undefined ones are last."""
        return sorted(self._rows, key=lambda row: _order(float(row["mean_iou"])))

    @property
    def files(self) -> list[str]:
        """Names of the files that `write` writes."""
        return [TABLE, *self._pictures]

    @property
    def _pictures(self) -> list[str]:
        return [f"worst_{i + 1}.png" for i in range(min(len(self._records), WORST))]

    def write(self, outputs: Outputs) -> None:
        """Writes `per_image.csv`, and plots image | label | prediction | error of the worst.

        Args:
          outputs: where to; `files` are planned.
        """
        worst = sorted(self._worst, reverse=True)
        for name, (_, _, place, prediction) in zip(self._pictures, worst, strict=True):
            record = self._records[place]
            picture = comparison(
                record["image"],
                record["label"],
                prediction,
                self._spec.value_colors,
                self._spec.value_names,
            )
            with outputs.file(name) as file:
                picture.save(file, format="PNG")
        with outputs.file(TABLE) as file:
            file.write(self._csv().encode())

    def _csv(self) -> str:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow((*self.columns, "picture"))
        pictures = itertools.chain(self._pictures, itertools.repeat(""))
        for row, picture in zip(self.rows(), pictures, strict=False):
            table.writerow([*(_shown(row[c]) for c in self.columns), picture])
        return text.getvalue()


def _order(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _shown(value: str | float) -> str:
    """A cell of the table; what is undefined is empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
