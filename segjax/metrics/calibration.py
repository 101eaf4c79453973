"""Calibration: whether of the pixels that are given 80 %, four in five are right."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from segjax.types import IGNORE_LABEL

BINS = 15
"""Intervals of the confidence, as in the paper's tables."""

LARGEST_TEMPERATURE = 20.0
"""The largest one that is looked for; the least one is one over it."""


def calibration_counts(
    label: np.ndarray,
    probabilities: np.ndarray,
    *,
    bins: int = BINS,
    ignore_label: int = IGNORE_LABEL,
) -> np.ndarray:
    """Sorts the pixels of one image by confidence: an array to be added to those of others.

    Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv 1706.04599, section 2. The confidence of a
    pixel is the largest of its probabilities; bin m of M holds those in ((m - 1)/M, m/M].

    Args:
      label: true class of each pixel, integers `[H, W]`.
      probabilities: of each class, `[H, W, K]`.
      bins: how many intervals, M.
      ignore_label: label of pixels that do not count.

    Returns:
      float64 `[M, 3]`: of each bin the number of pixels, the sum of their confidences, and
      how many of them are right.

    Raises:
      ValueError: if the shapes do not fit.
    """
    label, probabilities = np.asarray(label), np.asarray(probabilities)
    if label.ndim != 2 or probabilities.shape[:-1] != label.shape:
        raise ValueError(
            "label must be [H, W] and probabilities [H, W, K], got "
            f"{label.shape} and {probabilities.shape}"
        )
    counted = label != ignore_label
    confidence = probabilities.max(-1)[counted].astype(np.float64)
    right = probabilities.argmax(-1)[counted] == label[counted]
    # Rounding may take a sum of probabilities a little above 1, or the least one to 0.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    columns = (np.ones(len(place)), confidence, right)
    sums = [np.bincount(place, weights=x, minlength=bins) for x in columns]
    return np.stack(sums, -1)


def calibration_metrics(sums: np.ndarray) -> dict[str, float]:
    """Reads the calibration errors from the sum of arrays of `calibration_counts`.

    Args:
      sums: `[M, 3]`.

    Returns:
      `expected_calibration_error`, the mean over pixels of the distance between the accuracy
      and the confidence of their bin, and `maximum_calibration_error`, the largest one of a
      bin (Guo et al. 2017, equations 3 and 5); in [0, 1], NaN where there is no pixel.

    Raises:
      ValueError: if the sums have another shape.

    Example:
      >>> probabilities = np.array([[[0.8, 0.2], [0.8, 0.2]]])
      >>> sums = calibration_counts(np.array([[0, 1]]), probabilities)
      >>> round(calibration_metrics(sums)["expected_calibration_error"], 3)
      0.3
    """
    sums = np.asarray(sums, np.float64)
    if sums.ndim != 2 or sums.shape[1] != 3:
        raise ValueError(f"sums must be [M, 3], got {sums.shape}")
    used = sums[sums[:, 0] > 0]
    if not len(used):
        return {
            "expected_calibration_error": math.nan,
            "maximum_calibration_error": math.nan,
        }
    gaps = np.abs(used[:, 2] - used[:, 1])
    return {
        "expected_calibration_error": float(gaps.sum() / used[:, 0].sum()),
        "maximum_calibration_error": float((gaps / used[:, 0]).max()),
    }


def negative_log_likelihood(
    logits: np.ndarray, label: np.ndarray, temperature: float = 1.0
) -> float:
    """The mean of `-log p` over pixels, p being the probability of the true class.

    Args:
      logits: `[N, K]`.
      label: true classes, integers `[N]`.
      temperature: what the logits are divided by.

    Returns:
      The mean, in nats.

    Example:
      >>> logits = np.array([[0.0, 0.0]])
      >>> round(negative_log_likelihood(logits, np.array([1])), 4)
      0.6931
    """
    scaled = np.asarray(logits, np.float64) / temperature
    true = np.take_along_axis(scaled, np.asarray(label)[:, None], 1)[:, 0]
    return float((logsumexp(scaled, axis=1) - true).mean())


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Finds the temperature of the least negative log-likelihood.

    Guo et al. 2017, section 4.2; it is sought between a 20th and 20.

    Args:
      logits: of pixels that training has not seen, `[N, K]`.
      label: their true classes, integers `[N]`.

    Returns:
      The temperature.

    Example:
      >>> logits = np.array([[4.0, 0.0]] * 4)
      >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 2)
      3.64
    """
    found = minimize_scalar(
        lambda x: negative_log_likelihood(logits, label, math.exp(x)),
        bounds=(-math.log(LARGEST_TEMPERATURE), math.log(LARGEST_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(found.x)
