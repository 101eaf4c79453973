"""How well values of the CRF do: images predicted once, many candidates measured on them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.intensities import RecordScales
from segjax.data.normalization import ImageNormalization
from segjax.metrics import confusion_counts, semantic_metrics
from segjax.ops.base.forms import platform
from segjax.ops.crf.dense import refine
from segjax.ops.crf.filters import choose_method, crf_filters
from segjax.ops.crf.gaussian import Filter
from segjax.ops.crf.inference import Normalization
from segjax.ops.crf.permutohedral import CapacityError
from segjax.predict.scaled import ScaledImage
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Pages
from segjax.training.progress import Progress
from segjax.types import Array, Record


class Scene(NamedTuple):
    """One image of the search.

    Attributes:
      image: as it was stored, uint8 or uint16 `[H, W, C]`.
      label: `[H, W]`.
      logits: the file of what the network gave, `[H, W, K]`.
    """

    image: np.ndarray
    label: np.ndarray
    logits: Path


def predict_scenes(
    predictor: Pages,
    records: Sequence[Record],
    places: Sequence[int],
    normalization: ImageNormalization,
    folder: Path,
) -> list[Scene]:
    """Predicts the images of the search once, and keeps the logits in files.

    Args:
      predictor: of the network; gives `logits`.
      records: of a split, with labels.
      places: of the images in the split.
      normalization: of the images.
      folder: for the files.

    Returns:
      A scene for each place.
    """
    scales = RecordScales(records, normalization)
    scenes: list[Scene] = []

    def images() -> Iterator[ScaledImage]:
        for i in places:
            record = records[i]
            image, label = (np.asarray(record[key]) for key in ("image", "label"))
            scenes.append(Scene(image, label, folder / f"{i}.npy"))
            yield ScaledImage(image, scales(i, record))

    for number, page in enumerate(predictor.pages(images(), ("logits",))):
        np.save(scenes[number].logits, page["logits"])
    return scenes


def mean_ious(
    scenes: Sequence[Scene], candidates: Sequence[CRF], names: Sequence[str]
) -> np.ndarray:
    """Measures candidates, those of equal widths together.

    Args:
      scenes: the images.
      candidates: alike but for weights and widths.
      names: of the classes.

    Returns:
      Mean IoU of each candidate; minus infinity where the lattice has no room for one
      of the images: such values would end every evaluation.
    """
    classes = len(names)
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, crf in enumerate(candidates):
        widths = (crf.sigma_alpha, crf.sigma_beta, crf.sigma_gamma)
        groups.setdefault(widths, []).append(i)
    counts = np.zeros((len(candidates), classes, classes), np.int64)
    failed = np.zeros(len(candidates), bool)
    progress = Progress(len(scenes) * len(groups), unit="CRFs")
    done = 0
    for scene in scenes:
        logits = jnp.asarray(np.load(scene.logits))
        for members in groups.values():
            group = [candidates[i] for i in members]
            found = None if failed[members[0]] else _measure(scene, logits, group)
            if found is None:
                failed[members] = True
            else:
                counts[members] += found
            done += 1
            progress.update(done)
    progress.close()
    scores = [semantic_metrics(count, names)["mean_iou"] for count in counts]
    return np.where(failed, -np.inf, np.nan_to_num(scores, nan=-np.inf))


def _measure(scene: Scene, logits: Array, group: Sequence[CRF]) -> np.ndarray | None:
    """Confusion counts `[n, K, K]` of candidates of the same widths on an image.

    None where the lattice has no room for it.
    """
    crf = group[0]
    backend = platform()
    method = crf.method
    if method == "auto":
        method = choose_method(scene.label.size, backend)
    try:
        filters = crf_filters(
            jnp.asarray(scene.image, jnp.float32),
            crf.sigma_alpha,
            crf.stored_sigma_beta(scene.image),
            crf.sigma_gamma,
            method=method,
            radius=crf.radius,
        )
    except CapacityError:
        return None
    found = _counts(
        logits,
        jnp.asarray(scene.label),
        filters,
        jnp.asarray([(crf.w1, crf.w2) for crf in group], jnp.float32),
        num_iterations=crf.num_iterations,
        normalization=crf.normalization,
        at_once=backend != "cpu" or method == "exact",
    )
    return np.asarray(found)


@functools.partial(
    jax.jit, static_argnames=("num_iterations", "normalization", "at_once")
)
def _counts(
    logits: Array,
    label: Array,
    filters: tuple[Filter, Filter],
    weights: Array,
    *,
    num_iterations: int,
    normalization: Normalization,
    at_once: bool,
) -> Array:
    """Confusion counts `[n, K, K]` of the weights `[n, 2]`.

    `at_once` is a `vmap`, in which a pass of the filter serves all weights. It pays
    where pairs of pixels are what costs, and on accelerators; on a CPU the lattice is
    half as fast again one by one, as its vertices then stay in the cache.
    """

    def one(pair: Array) -> Array:
        refined = refine(
            logits,
            filters,
            (pair[0], pair[1]),
            num_iterations=num_iterations,
            normalization=normalization,
        )
        labels = refined.argmax(-1)
        return confusion_counts(label, labels, num_classes=logits.shape[-1])

    return jax.vmap(one)(weights) if at_once else jax.lax.map(one, weights)


def mean_iou_alone(scenes: Sequence[Scene], names: Sequence[str]) -> float:
    """Mean IoU of the network without a CRF."""
    total = np.zeros((len(names), len(names)), np.int64)
    for scene in scenes:
        labels = jnp.asarray(np.load(scene.logits).argmax(-1))
        label = jnp.asarray(scene.label)
        total += np.asarray(confusion_counts(label, labels, num_classes=len(names)))
    return semantic_metrics(total, names)["mean_iou"]
