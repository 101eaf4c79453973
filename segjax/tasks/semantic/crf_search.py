"""Searching for the values of the CRF on images with labels, from coarse to fine.

DeepLab v1 searched `w1`, `sigma_alpha` and `sigma_beta` on 100 validation images, first
in large steps, then in small ones around the best, with `w2 = sigma_gamma = 3` and ten
iterations (Chen et al. 2015, arXiv 1412.7062, section 5.1). Here `w2` is searched, too:
weights cost least, since all of them share the filters of an image.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.crf_scores import Scene, mean_iou_alone, mean_ious

log = logging.getLogger("segjax")

COARSE_FRACTIONS = (0.015, 0.03, 0.06, 0.12, 0.2)
"""`sigma_alpha` as a fraction of the longer side; the papers search 0.06 to 0.2."""
COARSE_COLORS = (3.0, 6.0, 12.0)
COARSE_WEIGHTS = (1.0, 2.5, 5.0, 10.0)
COARSE_IMAGES = 4
"""The coarse search looks at one image in this many."""

FEW_IMAGES = 10
"""With fewer, what is best on them may be worse on others, and that is logged."""

FINE_ALPHA = (0.8, 1.0, 1.25)
FINE_BETA = (0.75, 1.0, 1.33)
FINE_W1 = (0.7, 1.0, 1.4)
FINE_W2 = (0.5, 1.0, 2.0)


class Tuned(NamedTuple):
    """The result of a search.

    Attributes:
      crf: the best values.
      without: mean IoU of the network alone.
      start: mean IoU with the values that the search began with.
      best: mean IoU with those that it found.
    """

    crf: CRF
    without: float
    start: float
    best: float


def coarse(start: CRF, side: int) -> list[CRF]:
    """The candidates of the first stage, the start among them.

    Args:
      start: gives `w2`, `sigma_gamma` and all that is not searched.
      side: of the images in pixels, the longer one.

    Returns:
      The start, and a grid of weights and widths.
    """
    grid = itertools.product(
        [_rounded(fraction * side) for fraction in COARSE_FRACTIONS],
        COARSE_COLORS,
        COARSE_WEIGHTS,
        (0.0, start.w2 or 3.0),
    )
    return [start, *_changed(start, grid)]


def fine(best: CRF) -> list[CRF]:
    """The candidates around the best of the first stage, itself among them."""
    grid = itertools.product(
        [_rounded(factor * best.sigma_alpha) for factor in FINE_ALPHA],
        [_rounded(factor * best.sigma_beta) for factor in FINE_BETA],
        [_rounded(factor * best.w1) for factor in FINE_W1],
        [_rounded(factor * best.w2) for factor in FINE_W2] if best.w2 else (0.0, 1.0),
    )
    return [best, *_changed(best, grid)]


def _changed(crf: CRF, grid: Iterator[tuple[float, ...]]) -> Iterator[CRF]:
    for sigma_alpha, sigma_beta, w1, w2 in grid:
        yield dataclasses.replace(
            crf, sigma_alpha=sigma_alpha, sigma_beta=sigma_beta, w1=w1, w2=w2
        )


def _rounded(value: float) -> float:
    """Three digits, as one would write it down."""
    return float(f"{value:.3g}")


def tune(scenes: Sequence[Scene], spec: LabelSpec, start: CRF) -> Tuned:
    """Searches for the values of highest mean IoU.

    Args:
      scenes: images with labels, at least one; the coarse search takes some of them.
      spec: names of the classes.
      start: where the search begins; what it finds is never worse on these images.

    Returns:
      The values, and the mean IoU without, with the start, and with them.
    """
    names = spec.names
    if len(scenes) < FEW_IMAGES:
        log.warning(
            "%s: so few are weak evidence; the values found may do worse on others. The papers "
            "search on 100.",
            _images(scenes),
        )
    few = scenes[::COARSE_IMAGES]
    side = max(max(scene.label.shape) for scene in scenes)
    candidates = list(dict.fromkeys(coarse(start, side)))
    log.info(
        "Searching: first %d candidates on %s, then those around the best on %s.",
        *(len(candidates), _images(few), _images(scenes)),
    )
    scores = mean_ious(few, candidates, names)
    best = candidates[int(np.argmax(scores))]
    log.info(
        "Coarse: %d candidates on %s, mean IoU at most %.4f with %s",
        *(len(candidates), _images(few), scores.max(), _words(best)),
    )
    candidates = list(dict.fromkeys([start, *fine(best)]))
    scores = mean_ious(scenes, candidates, names)
    place = int(np.argmax(scores))
    log.info(
        "Fine: %d candidates on %s, mean IoU at most %.4f with %s",
        *(len(candidates), _images(scenes), scores[place], _words(candidates[place])),
    )
    return Tuned(
        crf=candidates[place],
        without=mean_iou_alone(scenes, names),
        start=float(scores[0]),
        best=float(scores[place]),
    )


def _images(scenes: Sequence[Scene]) -> str:
    return "1 image" if len(scenes) == 1 else f"{len(scenes)} images"


def _words(crf: CRF) -> str:
    names = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
    return ", ".join(f"{name} {getattr(crf, name):g}" for name in names)
