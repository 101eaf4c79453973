"""Confusion counts on the device, and the ratios that are read from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.base.forms import platform
from segjax.types import IGNORE_LABEL, Array

_BLOCK = 1 << 16
"""Pixels per matrix product: far below 2**24, where float32 stops counting."""


def confusion_counts(
    label: Array,
    prediction: Array,
    *,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> Array:
    """Counts how many pixels of each true class were given each class.

    Counts are added up over a whole set and divided once, never averaged over images:
    the sum of the counts of the batches is the count of the set. The result is exact
    up to 2**31 - 1 pixels a call; add up calls in numpy int64. Integers are
    added, so the result does not depend on the order: it is the same on every run.

    Two forms of the same sum, chosen when compiled. CPU: a scatter into
    K^2 bins (512 x 512: 0.8 ms with 2 classes and 0.6 ms with 21). Elsewhere, where a
    scatter is slow or its updates collide: a product of one-hot matrices in
    blocks (1.7 and 45 ms on CPU, which is why it is not used there).

    Args:
      label: true class of each pixel, integers `[..., H, W]`.
      prediction: class given to each pixel, integers `[..., H, W]`.
      num_classes: number of classes, K.
      ignore_label: label of pixels that do not count.

    Returns:
      int32 `[K, K]`; row: true class, column: predicted class. A pixel whose label
      or prediction is outside 0 .. K - 1 is not counted, as arrays under `jit`
      cannot raise; compare the sum with the number of labelled pixels to see it.

    Raises:
      ValueError: if the shapes differ, or an array is not of integers.

    Example:
      >>> label = jnp.array([[0, 0, 1, 255]])
      >>> confusion_counts(label, jnp.array([[0, 1, 1, 1]]), num_classes=2).tolist()
      [[1, 1], [0, 1]]
    """
    label, prediction = jnp.asarray(label), jnp.asarray(prediction)
    if label.shape != prediction.shape:
        raise ValueError(
            f"label and prediction must have one shape, got {label.shape} and "
            f"{prediction.shape}"
        )
    for name, array in (("label", label), ("prediction", prediction)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"{name} must hold integers, got {array.dtype}")

    label = label.astype(jnp.int32).ravel()
    prediction = prediction.astype(jnp.int32).ravel()
    counted = (label != ignore_label) & (label >= 0) & (label < num_classes)
    counted &= (prediction >= 0) & (prediction < num_classes)
    label = jnp.where(counted, label, num_classes)
    count = _counts_by_bins if platform() == "cpu" else _counts_by_products
    return count(label, prediction, num_classes)


def _counts_by_bins(label: Array, prediction: Array, num_classes: int) -> Array:
    """Counts flat arrays; the label `num_classes` is not counted."""
    # Whatever the prediction beside it, a pixel not counted lands past the bins.
    bins = jnp.where(
        label < num_classes, label * num_classes + prediction, num_classes**2
    )
    counts = jnp.zeros(num_classes**2 + 1, jnp.int32).at[bins].add(1)
    return counts[:-1].reshape(num_classes, num_classes)


def _counts_by_products(label: Array, prediction: Array, num_classes: int) -> Array:
    """Counts flat arrays; the label `num_classes` is not counted."""
    padding = (0, -label.size % _BLOCK)
    label = jnp.pad(label, padding, constant_values=num_classes).reshape(-1, 1, _BLOCK)
    prediction = jnp.pad(prediction, padding).reshape(-1, 1, _BLOCK)
    classes = jnp.arange(num_classes)[None, :, None]
    # Zeros and ones are exact in bfloat16, their sums in float32 accumulators.
    counts = jnp.einsum(
        "bin,bjn->bij",
        (label == classes).astype(jnp.bfloat16),
        (prediction == classes).astype(jnp.bfloat16),
        preferred_element_type=jnp.float32,
    )
    return counts.astype(jnp.int32).sum(0)


def semantic_metrics(
    counts: np.ndarray | Array, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Reads the metrics of semantic segmentation from confusion counts.

    With `n[i, j]` the pixels of class i given class j, `t[i]` the sum of row i and
    `p[i]` the sum of column i (Long, Shelhamer and Darrell 2015, arXiv 1411.4038,
    section 5):

    - `pixel_accuracy`: sum n[i, i] / sum t[i]; `pixel_error` is one minus it.
    - `mean_accuracy`: mean over classes of n[i, i] / t[i].
    - `mean_iou`: mean over classes of n[i, i] / (t[i] + p[i] - n[i, i]).
    - `frequency_weighted_iou`: mean of the same, weighted by t[i].
    - `mean_dice`: mean over classes of 2 n[i, i] / (t[i] + p[i]).
    - `iou/<name>`, `accuracy/<name>`, `dice/<name>`: the terms of the means.
    - `classes_absent`: how many classes are neither in truth nor in prediction.

    A class that is absent has no IoU, no accuracy and no Dice: these are NaN and left
    out of the means, neither 0 nor 1 (the paper divides by the number of
    classes; its released code leaves them out, as here). `classes_absent` says how
    many, the NaN which. A class that was predicted but is nowhere in
    the truth counts with IoU 0 and Dice 0; its accuracy is NaN, as there is nothing to
    find. With no pixel at all everything but `classes_absent` is NaN. `without_nan`
    turns NaN into the null of JSON.

    Args:
      counts: `[K, K]`, rows truth, from `confusion_counts`, added up.
      names: names of the classes; by default their numbers.

    Returns:
      Metrics by name, Python floats in [0, 1] or NaN.

    Raises:
      ValueError: if counts are not square, or names do not fit.

    Example:
      >>> metrics = semantic_metrics(np.array([[3, 1], [0, 4]]), ("cell", "membrane"))
      >>> metrics["pixel_accuracy"], metrics["iou/cell"]
      (0.875, 0.75)
    """
    n = np.asarray(jax.device_get(counts)).astype(np.float64)
    if n.ndim != 2 or n.shape[0] != n.shape[1]:
        raise ValueError(f"counts must be [K, K], got shape {n.shape}")
    names = tuple(map(str, range(len(n)))) if names is None else tuple(names)
    if len(names) != len(n) or len(set(names)) != len(n):
        raise ValueError(f"names must be {len(n)} different names, got {names}")

    hit, truth, predicted = np.diag(n), n.sum(1), n.sum(0)
    accuracy = _ratio(hit, truth)
    iou = _ratio(hit, truth + predicted - hit)
    dice = _ratio(2 * hit, truth + predicted)
    pixel_accuracy = float(_ratio(hit.sum(), truth.sum()))
    present = truth > 0
    metrics = {
        "pixel_accuracy": pixel_accuracy,
        "pixel_error": 1.0 - pixel_accuracy,
        "mean_accuracy": _mean(accuracy),
        "mean_iou": _mean(iou),
        "frequency_weighted_iou": float(
            _ratio(truth[present] @ iou[present], truth.sum())
        ),
        "mean_dice": _mean(dice),
        "classes_absent": float(np.isnan(iou).sum()),
    }
    for key, values in (("iou", iou), ("accuracy", accuracy), ("dice", dice)):
        metrics |= {
            f"{key}/{name}": float(value)
            for name, value in zip(names, values, strict=True)
        }
    return metrics


def without_nan(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces NaN, which JSON does not know, by None, which it writes as null.

    Values that are not floats stay as they are.

    Example:
      >>> without_nan({"iou/cell": 0.5, "iou/membrane": float("nan")})
      {'iou/cell': 0.5, 'iou/membrane': None}
    """
    is_nan = lambda value: isinstance(value, float) and math.isnan(value)
    return {k: None if is_nan(value) else value for k, value in metrics.items()}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides; nothing out of nothing is NaN."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """Averages what is not NaN; NaN if there is nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
