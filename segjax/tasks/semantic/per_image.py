"""The table of single images of a network that labels pixels."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from segjax.data.label_spec import LabelSpec
from segjax.metrics import (
    boundary_counts,
    boundary_iou_counts,
    boundary_iou_metrics,
    boundary_metrics,
    matching_metrics,
    semantic_metrics,
    surface_counts,
    surface_metrics,
)
from segjax.training.run_files.image_table import ImageTable
from segjax.types import IGNORE_LABEL, Record
from segjax.viz import comparison

OBJECT_COLUMNS = ("true_objects", "found_objects", "f1@0.5", "panoptic_quality@0.5")


_OF_OUTLINES: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
    ("surface_distance", surface_counts, surface_metrics),
    ("boundary_f1", boundary_counts, boundary_metrics),
    ("mean_boundary_iou", boundary_iou_counts, boundary_iou_metrics),
)
"""A column of each kind, how an image is counted, and how the counts are read."""


class PerImage(ImageTable):
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
        columns = (
            *("name", "pixels", "mean_iou", *(f"iou/{name}" for name in names)),
            *("mean_dice", *(f"dice/{name}" for name in names)),
            *("surface_distance", "hausdorff_95", "boundary_f1"),
            *("hausdorff", "mean_boundary_iou"),
            *(OBJECT_COLUMNS if objects else ()),
        )
        super().__init__(records, columns, self._picture, label_spec.colors)
        self._spec = label_spec
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
        more: Mapping[str, float] | None = None,
    ) -> None:
        """Adds the oldest image that is expected.

        Args:
          label: class ids `[H, W]`.
          prediction: the same of the network.
          counts: its confusion counts, `[K, K]`.
          matching: `matching_counts` of its objects, `[T, 4]`, where they are measured.
          more: what else was measured of it, by name.
        """
        place, name = self._expected.popleft()
        classes, names = self._spec.num_classes, self._spec.names
        found = dict(more or {})
        for column, count, read in _OF_OUTLINES:
            if column not in found:
                found |= read(count(label, prediction, num_classes=classes), names)
        found |= semantic_metrics(counts, names)
        if matching is not None:
            right, invented, missed, _ = matching[0]
            found |= matching_metrics([matching])
            found |= {
                "true_objects": int(right + missed),
                "found_objects": int(right + invented),
            }
        found |= {"pixels": int((label != IGNORE_LABEL).sum())}
        values = {name: found[name] for name in self.columns if name in found}
        values |= {k: v for k, v in (more or {}).items() if k not in values}
        self.add_row(place, name, values, prediction, found["mean_iou"])

    def _picture(self, record: Record, prediction: np.ndarray) -> Image.Image:
        """Image, label, prediction and error."""
        spec = self._spec
        names, colors = spec.value_names, spec.value_colors
        return comparison(record["image"], record["label"], prediction, colors, names)
