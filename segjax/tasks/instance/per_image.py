"""The table of single images of a network that finds objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from segjax.data.dataset import Dataset
from segjax.metrics import matching_counts, matching_metrics
from segjax.tasks.instance.files import label_of
from segjax.tasks.instance.masks import instance_masks, label_image
from segjax.tasks.instance.pictures import side_by_side
from segjax.training.run_files.image_table import ImageTable
from segjax.types import Record

IOU = 0.5
"""From here on an object that was found is right."""

_KINDS = ("f1", "precision", "recall", "panoptic_quality")


class InstancesPerImage(ImageTable):
    """Rows of metrics of single images, and pictures of the worst.

    The worst are those of the lowest F1 of objects, or where there are no masks those of which
    most objects too many or too few were found.
    """

    def __init__(self, records: Sequence[Record], dataset: Dataset, keep_score: float):
        """Begins with no image.

        Args:
          records: those that are measured.
          dataset: names the classes and joints.
          keep_score: objects of a lower score do not count.
        """
        columns = (
            *("name", "true_objects", "found_objects"),
            *(f"{kind}@{IOU}" for kind in _KINDS),
        )
        plot = lambda record, found: side_by_side(record, found, dataset)
        super().__init__(records, columns, plot)
        self._keep_score = keep_score

    def add(
        self,
        place: int,
        record: Record,
        found: Mapping[str, np.ndarray],
        more: Mapping[str, float],
    ) -> None:
        """Adds an image.

        Args:
          place: of the record.
          record: with its objects.
          found: as from `to_image_coordinates`.
          more: what else was measured of it, by name.
        """
        kept = above(found, self._keep_score)
        metrics, goodness = measure(record, kept)
        values = {
            "true_objects": metrics.pop("labelled"),
            "found_objects": metrics.pop("found"),
            **metrics,
            **more,
        }
        if "masks" in kept:
            prediction = label_image(kept["masks"], record["image"].shape[:2])
        else:
            prediction = label_of(kept, record["image"].shape[:2])
        name = str(record["name"])
        self.add_row(place, name, values, prediction, goodness, kept)


def above(found: Mapping[str, np.ndarray], score: float) -> dict[str, np.ndarray]:
    """Leaves the objects of at least a score."""
    good = found["scores"] >= score
    return {name: values[good] for name, values in found.items()}


def measure(
    record: Record, kept: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], float]:
    """Counts the objects of an image, and matches those that have masks.

    Args:
      record: with its objects.
      kept: those that were found and count.

    Returns:
      `labelled` and `found`, how many there are, and with masks F1 and the like at an IoU of
      0.5; and a number that is the higher the better.
    """
    labelled = int((~np.asarray(record["crowd"], bool)).sum())
    metrics: dict[str, float] = {"labelled": labelled, "found": len(kept["scores"])}
    if "masks" not in kept:
        return metrics, -float(abs(labelled - len(kept["scores"])))
    size = record["image"].shape[:2]
    true, given = (
        label_image(x, size) for x in (instance_masks(record), kept["masks"])
    )
    matched = matching_metrics([matching_counts(true, given, (IOU,))], (IOU,))
    metrics |= {f"{kind}@{IOU}": matched[f"{kind}@{IOU}"] for kind in _KINDS}
    return metrics, metrics[f"f1@{IOU}"]
