"""Pictures of a finished run that labels pixels: confusion matrix, predictions, errors."""

from __future__ import annotations

from collections.abc import Mapping

from segjax.data.dataset import Dataset
from segjax.data.intensities import RecordScales
from segjax.data.normalization import ImageNormalization
from segjax.output.folder import Outputs
from segjax.predict.scaled import ScaledImage
from segjax.tasks.semantic.evaluate import Pages, Report
from segjax.viz import comparison, plot_confusion

CONFUSION = "confusion.png"


def write_confusion(outputs: Outputs, report: Report, dataset: Dataset) -> None:
    """Plots `confusion.png`, where classes do not overlap."""
    if report.counts is None:
        return
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
    records = dataset.splits[split]
    scales = RecordScales(records, normalization)
    for i, name in examples.items():
        record = records[i]
        image = ScaledImage(record["image"], scales(i, record))
        picture = comparison(
            record["image"],
            record["label"],
            next(predictor.pages([image], ("labels",)))["labels"],
            dataset.label_spec.value_colors,
            dataset.label_spec.value_names,
        )
        with outputs.file(name) as file:
            picture.save(file, format="PNG")
