"""Weights that make up for classes being rare, counted in the labels of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError, suggestion
from segjax.types import IGNORE_LABEL, Record


def median_frequency(records: Sequence[Record], label_spec: LabelSpec) -> np.ndarray:
    """Balances classes by the median of their frequencies.

    The frequency of a class is its number of pixels over the number of labelled pixels
    in the images that show it; its weight is the median frequency over its own. David
    Eigen and Rob Fergus, arXiv 1411.4734, section 4.3.2, as SegNet, arXiv 1511.00561, uses
    it. A class that no image shows has weight 0 and no part in the median.

    Args:
      records: labelled images; each is read once.
      label_spec: the classes.

    Returns:
      One weight a class, `[K]` float32.

    Raises:
      UserError: there is no labelled pixel, or no labels at all.

    Example:
      >>> spec = LabelSpec(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
      >>> labels = [np.array([[0, 0, 0, 1]]), np.array([[0, 0, 2, 255]])]
      >>> weights = median_frequency([{"label": x} for x in labels], spec)
      >>> weights.astype(float).round(3).tolist()
      [0.467, 1.333, 1.0]
    """
    pixels, reach = _count(records, label_spec)
    shown = pixels > 0
    frequency = pixels[shown] / reach[shown]
    weights = np.zeros(label_spec.num_classes, np.float32)
    weights[shown] = np.median(frequency) / frequency
    return weights


def enet(records: Sequence[Record], label_spec: LabelSpec) -> np.ndarray:
    """Balances classes by `1 / ln(1.02 + p)` of their fraction p of all labelled pixels.

    So weights lie between 1.4 and 50.5. Adam Paszke et al., ENet, arXiv 1606.02147,
    section 5.2. Arguments, result and errors as of `median_frequency`.

    Example:
      >>> spec = LabelSpec(("a", "b"), ((0, 0, 0), (1, 1, 1)))
      >>> weights = enet([{"label": np.array([[0, 0, 0, 255]])}], spec)
      >>> weights.astype(float).round(2).tolist()
      [1.42, 50.5]
    """
    pixels, _ = _count(records, label_spec)
    return (1 / np.log(1.02 + pixels / pixels.sum())).astype(np.float32)


CLASS_WEIGHTS: dict[str, Callable[[Sequence[Record], LabelSpec], np.ndarray]] = {
    "median_frequency": median_frequency,
    "enet": enet,
}
"""Ways to compute weights, by name."""


def class_weights(
    method: str, records: Sequence[Record], label_spec: LabelSpec
) -> tuple[float, ...]:
    """Computes weights by a name of `CLASS_WEIGHTS`, as a configuration has them.

    Raises:
      UserError: there is no such method, or nothing to count.
    """
    check_method(method)
    return tuple(map(float, CLASS_WEIGHTS[method](records, label_spec)))


def check_method(method: str) -> None:
    """Raises `UserError` if a name is not one of `CLASS_WEIGHTS`."""
    if method not in CLASS_WEIGHTS:
        raise UserError(
            f"config.loss.class_weights is {method!r}; there is no such way to compute "
            f"them.{suggestion(method, CLASS_WEIGHTS)}"
        )


def _count(
    records: Sequence[Record], label_spec: LabelSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Counts each class, and the labelled pixels of the images that show it."""
    classes = label_spec.num_classes
    pixels, reach = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    for i in range(len(records)):
        label = records[i].get("label")
        if label is None:
            raise UserError(
                "Class weights are counted in labels, and this split has none. Count "
                "those of another split."
            )
        counts = np.bincount(np.ravel(label), minlength=IGNORE_LABEL + 1)[:classes]
        pixels += counts
        reach += np.where(counts > 0, counts.sum(), 0)
    if not pixels.any():
        raise UserError(
            "Class weights are counted in labels, and here no pixel is labelled."
        )
    return pixels, reach
