"""Images measured one by one by a network that labels pixels, for the report."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np

from segjax.data.intensities import RecordScales
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import ImageNormalization
from segjax.predict.scaled import ScaledImage
from segjax.tasks.semantic.evaluate import Pages
from segjax.tasks.semantic.pixel_scores import pixel_counts, pixel_metrics
from segjax.types import IGNORE_LABEL, Record
from segjax.viz.pictures import (
    MISSED,
    colorize,
    error_directions,
    error_map,
    to_display,
)
from segjax.viz.report_values import (
    PANEL_SIDE,
    ImageRow,
    MeasuredImages,
    Panel,
    worst_first,
)

_MOST_CLASSES = 4
"""Up to so many the IoU of each has a column."""

_THINNED = 2 * PANEL_SIDE
"""Larger images are thinned to at most this side before they become panels."""


def measure_images(
    predictor: Pages,
    records: Sequence[Record],
    places: Sequence[int],
    label_spec: LabelSpec,
    *,
    normalization: ImageNormalization,
    with_panels: int,
) -> MeasuredImages:
    """Measures images one by one.

    The mean IoU of an image is that of the classes in its label or prediction, so the mean
    over images is not that of the split.

    Args:
      predictor: the network.
      records: of a split, with labels.
      places: of the images in the split; each is read once.
      label_spec: names and colours of the classes.
      normalization: how images are normalised, as in training.
      with_panels: how many images, the worst, keep their pictures.

    Returns:
      The images, the worst first.
    """
    waiting: collections.deque[Record] = collections.deque()
    scales = RecordScales(records, normalization)

    def images() -> Iterator[ScaledImage]:
        for i in places:
            record = records[i]
            waiting.append(record)
            yield ScaledImage(record["image"], scales(i, record))

    scored = (
        _scored(waiting.popleft(), page["labels"], label_spec)
        for page in predictor.pages(images(), ("labels",))
    )
    return MeasuredImages(
        worst_first(scored, keep_panels=with_panels),
        "They are sorted by mean IoU, over the classes that an image has or was given.",
    )


def _scored(
    record: Record, prediction: np.ndarray, spec: LabelSpec
) -> tuple[float, ImageRow]:
    """The mean IoU of an image, and its row."""
    label = np.asarray(record["label"])
    metrics = pixel_metrics(pixel_counts(label, prediction, spec), spec)
    kinds = ["mean_iou", "mean_dice", "pixel_error"]
    if spec.num_classes <= _MOST_CLASSES:
        kinds += [f"iou/{name}" for name in spec.names]
    row = ImageRow(
        record["name"],
        {kind: metrics[kind] for kind in kinds},
        panels_of(record["image"], label, prediction, spec),
    )
    return metrics["mean_iou"], row


def panels_of(
    image: np.ndarray, label: np.ndarray, prediction: np.ndarray, spec: LabelSpec
) -> tuple[Panel, ...]:
    """Image, label, prediction and error of an image.

    Args:
      image: as it is stored, `[H, W, C]`.
      label: true classes, integers `[H, W]`.
      prediction: predicted classes, integers `[H, W]`.
      spec: names and colours of the classes.

    Returns:
      The panels.
    """
    counted = label != IGNORE_LABEL
    wrong = np.mean(label[counted] != prediction[counted]) if counted.any() else 0.0
    caption = f"error: {wrong:.1%} of the pixels"
    if len(spec.value_names) == 2:
        for text, color in error_directions(spec.value_names):
            caption += f"; {'blue' if color == MISSED else 'orange'}: {text}"
    else:
        caption += "; orange: wrong"
    # Colours take several times the memory: large images are thinned before.
    step = -(-max(label.shape) // _THINNED)
    image, label, prediction = (x[::step, ::step] for x in (image, label, prediction))
    return (
        Panel("image", to_display(image)),
        Panel("label", colorize(label, spec.value_colors), crisp=True),
        Panel("prediction", colorize(prediction, spec.value_colors), crisp=True),
        Panel(caption, error_map(label, prediction), crisp=True),
    )
