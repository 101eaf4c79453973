"""Pictures of a finished run that labels pixels: confusion matrix, predictions, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.files.images import normalize
from segjax.data.normalization import ImageNormalization
from segjax.data.label_spec import LabelSpec
from segjax.output.folder import Outputs
from segjax.tasks.semantic.evaluate import Pages, Report
from segjax.tasks.semantic.per_image import TABLE, PerImage, worst_names
from segjax.types import Record
from segjax.viz import comparison, plot_confusion

CONFUSION = "confusion.png"


def write_confusion(outputs: Outputs, report: Report, dataset: Dataset) -> None:
    """Plots `confusion.png`."""
    with outputs.file(CONFUSION) as file:
        plot_confusion(report.counts, dataset.label_spec.names, file)


def write_examples(
    outputs: Outputs,
    examples: Mapping[int, str],
    predictor: Pages,
    dataset: Dataset,
    *,
    split: str,
    normalization: ImageNormalization,
) -> None:
    """Plots image | label | prediction | error.

    Args:
      outputs: where to.
      examples: places of the records, and the names of their pictures.
      predictor: of the network.
      dataset: its data.
      split: of the records.
      normalization: of the images.
    """
    for i, name in examples.items():
        record = dataset.splits[split][i]
        image = normalize(record["image"], normalization)
        prediction = next(predictor.pages([image], ("labels",)))["labels"]
        _write_comparison(outputs, name, record, prediction, dataset.label_spec)


def write_per_image(
    outputs: Outputs, table: PerImage, records: Sequence[Record], label_spec: LabelSpec
) -> None:
    """Writes `per_image.csv`, and plots image | label | prediction | error of the worst.

    Args:
      outputs: where to; the table, and `worst_names` of as many images.
      table: what was measured.
      records: those that were measured; the worst are read again.
      label_spec: names and colours of the classes.
    """
    names = worst_names(len(records))
    for name, (place, prediction) in zip(names, table.worst(), strict=True):
        _write_comparison(outputs, name, records[place], prediction, label_spec)
    with outputs.file(TABLE) as file:
        file.write(table.csv().encode())


def _write_comparison(
    outputs: Outputs,
    name: str,
    record: Record,
    prediction: np.ndarray,
    label_spec: LabelSpec,
) -> None:
    picture = comparison(
        record["image"],
        record["label"],
        prediction,
        label_spec.colors,
        label_spec.names,
    )
    with outputs.file(name) as file:
        picture.save(file, format="PNG")
