"""Images measured one by one by a network that finds objects, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from segjax.data.dataset import Dataset
from segjax.tasks.instance.masks import instance_masks, label_image
from segjax.tasks.instance.per_image import IOU, above, measure
from segjax.tasks.instance.pictures import plot_both
from segjax.types import Record
from segjax.viz.pictures import error_map, to_display
from segjax.viz.report_values import ImageRow, MeasuredImages, Panel, Table, worst_first

Found = tuple[Record, Mapping[str, np.ndarray]]
"""A record, and what was found in it, as from `to_image_coordinates`."""


def measure_images(
    found: Iterable[Found], dataset: Dataset, *, keep_score: float, with_panels: int
) -> MeasuredImages:
    """Measures images one by one.

    Args:
      found: records with their objects, and what was found in each.
      dataset: names the classes and joints.
      keep_score: objects of a lower score do not count.
      with_panels: how many images, the worst, keep their pictures.

    Returns:
      The images, the worst first, and how many objects of each class there are.
    """
    names = dataset.label_spec.names
    counts = np.zeros((len(names), 2), np.int64)

    def scored() -> Iterator[tuple[float, ImageRow]]:
        for record, objects in found:
            kept = above(objects, keep_score)
            real = ~np.asarray(record["crowd"], bool)
            for column, classes in enumerate(
                (record["classes"][real], kept["classes"])
            ):
                counts[:, column] += np.bincount(classes, minlength=len(names))
            yield _scored(record, kept, dataset)

    rows = worst_first(scored(), keep_panels=with_panels)
    header = ("class", "labelled", f"found, of a score of at least {keep_score:g}")
    table = [
        (name, *pair) for name, pair in zip(names[1:], counts[1:].tolist(), strict=True)
    ]
    caption = f"Objects in the {len(rows)} images below"
    with_masks = bool(rows) and f"f1@{IOU}" in rows[0].metrics
    return MeasuredImages(
        rows,
        f"They are sorted by the F1 of objects at an IoU of {IOU}."
        if with_masks
        else "They are sorted by how many objects too many or too few were found.",
        (Table(caption, header, table),),
    )


def _scored(
    record: Record, kept: Mapping[str, np.ndarray], dataset: Dataset
) -> tuple[float, ImageRow]:
    """How well the objects of an image were found, and its row."""
    metrics, score = measure(record, kept)
    truth, answer = plot_both(record, kept, dataset)
    panels = [
        Panel("image", to_display(record["image"])),
        Panel("label", np.asarray(truth)),
        Panel("prediction", np.asarray(answer)),
    ]
    if "masks" in kept:
        size = record["image"].shape[:2]
        true, given = (
            label_image(x, size) for x in (instance_masks(record), kept["masks"])
        )
        error = error_map((true > 0).astype(int), (given > 0).astype(int))
        caption = "error, pixels of all objects; orange: missed, blue: invented"
        panels.append(Panel(caption, error, crisp=True))
    return score, ImageRow(record["name"], metrics, tuple(panels))
