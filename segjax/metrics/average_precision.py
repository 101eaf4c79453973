"""Average precision by COCO's definition: boxes, masks, outlines and keypoints.

Lin et al. 2014, arXiv 1405.0312; the definition is that of `pycocotools.cocoeval`, whose
numbers these are. Detections are matched with the truth of their image and class in the
order of their scores, at ten thresholds of similarity, 0.50 to 0.95; precision is read at
101 recalls, made to fall, and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segjax.metrics import instance_similarity as similarity
from segjax.metrics.detection_matching import (
    RECALLS,
    THRESHOLDS,
    Matches,
    matched_greedily,
    precision_and_recall,
)
from segjax.rle import Rle, encode

KINDS = ("boxes", "masks", "boundaries", "keypoints")
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas of objects in pixels, both limits included."""

Objects = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """The result of `AveragePrecision`.

    Attributes:
      stats: COCO's numbers by name: AP, AP50, AP75, AP_small, AP_medium, AP_large, AR_1,
        AR_10, AR_100, AR_small, AR_medium, AR_large; of keypoints AP, AP50, AP75,
        AP_medium, AP_large, AR, AR50, AR75, AR_medium, AR_large. NaN where there is no
        truth of that size.
      per_class: those named AP of each class, by its name.
      precision: float64 `[T, R, K - 1, A]`, at thresholds, recalls, classes and sizes;
        NaN where there is no truth.
    """

    stats: dict[str, float]
    per_class: dict[str, dict[str, float]]
    precision: np.ndarray


@dataclass
class AveragePrecision:
    """Adds up images, and gives COCO's numbers at the end.

    Attributes:
      names: of the classes 1 to K - 1.
      kind: what is compared: "boxes", "masks", "boundaries" (arXiv 2103.16562) or
        "keypoints".
      max_detections: detections of an image and class that count, growing; the last
        counts for AP. By default COCO's: (1, 10, 100), of keypoints (20,).
      sigmas: spread of each keypoint (`segjax.data.instance_spec.KeypointSpec.sigmas`).

    Raises:
      ValueError: if an argument is not allowed.

    Example:
      >>> truth = {"boxes": np.array([[0.0, 0.0, 9.0, 9.0]]), "classes": np.array([1])}
      >>> found = truth | {"scores": np.array([0.5])}
      >>> metric = AveragePrecision(("disc",))
      >>> metric.add(truth, found)
      >>> round(metric.result().stats["AP"], 3)
      1.0
    """

    names: Sequence[str]
    kind: str = "boxes"
    max_detections: Sequence[int] = ()
    sigmas: Sequence[float] = ()
    _matches: list[dict[int, Matches]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        limits = tuple(self.max_detections)
        if not limits:
            limits = (20,) if self.kind == "keypoints" else (1, 10, 100)
        if list(limits) != sorted(set(limits)) or limits[0] < 1:
            raise ValueError(
                f"max_detections must be integers that grow from at least 1, got "
                f"{tuple(self.max_detections)}"
            )
        self.max_detections = limits
        if self.kind == "keypoints" and not len(self.sigmas):
            raise ValueError("sigmas must be given for kind 'keypoints'")

    @property
    def sizes(self) -> dict[str, tuple[float, float]]:
        """Ranges of areas; COCO has no small objects with keypoints."""
        some = {k: v for k, v in SIZES.items() if k != "small"}
        return some if self.kind == "keypoints" else dict(SIZES)

    def add(self, truth: Objects, detections: Objects) -> None:
        """Adds an image.

        Args:
          truth: `boxes` `[G, 4]`, `(y0, x0, y1, x1)`, and `classes` `[G]`; where it has
            them `crowd` bool `[G]` and `areas` `[G]`, by default those of masks or boxes;
            `masks`, run lengths or bool `[G, H, W]`; `keypoints` `[G, P, 3]`.
          detections: `classes` and `scores` `[D]`, and of `boxes`, `masks` and `keypoints`
            what is compared.

        Raises:
          ValueError: if arrays do not fit together, or a class is not 1 to K - 1.
        """
        truth, detections = self._checked(truth, True), self._checked(detections, False)
        found: dict[int, Matches] = {}
        both = np.concatenate([truth["classes"], detections["classes"]])
        for k in np.unique(both).tolist():
            mine = _chosen(truth, np.flatnonzero(truth["classes"] == k))
            order = np.flatnonzero(detections["classes"] == k)
            by_score = np.argsort(-detections["scores"][order], kind="stable")
            order = order[by_score][: self.max_detections[-1]]
            found[k] = self._match(mine, _chosen(detections, order))
        self._matches.append(found)

    def merge(self, other: AveragePrecision) -> None:
        """Adds the images of another one, after its own."""
        self._matches.extend(other._matches)

    def gather(
        self,
        gather: Callable[[np.ndarray], np.ndarray],
        places: Sequence[int],
        order: Sequence[int],
    ) -> None:
        """Adds the images that other processes have seen; all of them call it.

        Args:
          gather: concatenates the rows that each process has.
          places: of the images that were added, in all that there are.
          order: places of the images of all processes; theirs is the order from then on.
        """
        rows = [
            (place, k, m)
            for place, found in zip(places, self._matches, strict=True)
            for k, m in found.items()
        ]
        ranges = len(self.sizes)
        heads = [(place, k, len(m.scores), *m.positives) for place, k, m in rows]
        scores = [m.scores for *_, m in rows] + [np.zeros(0)]
        none = np.zeros((2, ranges, len(THRESHOLDS), 0), bool)
        flags = [np.stack([m.matched, m.ignored]) for *_, m in rows] + [none]
        everyone = gather(np.array(heads, np.int64).reshape(-1, 3 + ranges))
        all_scores = gather(np.concatenate(scores))
        all_flags = gather(np.moveaxis(np.concatenate(flags, -1), -1, 0))
        found = {place: dict[int, Matches]() for place in order}
        start = 0
        for place, k, count, *positives in everyone.tolist():
            here = slice(start, start + count)
            matched, ignored = np.moveaxis(all_flags[here], 0, -1)
            found[place][k] = Matches(
                all_scores[here], matched, ignored, np.array(positives)
            )
            start += count
        self._matches = list(found.values())

    def result(self) -> Scores:
        """Reads the numbers from all images that were added."""
        sizes, limits = list(self.sizes), self.max_detections
        shape = (len(self.names), len(sizes), len(limits))
        precision = np.full((len(THRESHOLDS), len(RECALLS), *shape), np.nan)
        recall = np.full((len(THRESHOLDS), *shape), np.nan)
        for k in range(len(self.names)):
            images = [m[k + 1] for m in self._matches if k + 1 in m]
            for a in range(len(sizes)):
                for i, limit in enumerate(limits):
                    curves = precision_and_recall(images, a, limit)
                    if curves is not None:
                        precision[:, :, k, a, i], recall[:, k, a, i] = curves
        full = precision[..., -1]
        per_class = {
            name: _named_precisions(full[:, :, k : k + 1], sizes)
            for k, name in enumerate(self.names)
        }
        stats = _named_precisions(full, sizes) | self._recalls(recall, sizes)
        return Scores(stats, per_class, full)

    def _recalls(self, recall: np.ndarray, sizes: list[str]) -> dict[str, float]:
        """Names the average recalls of `[T, K - 1, A, M]`."""
        if self.kind == "keypoints":
            found = {"AR": _mean(recall[:, :, 0, -1])}
            found |= {f"AR{t}": _mean(recall[_at(t), :, 0, -1]) for t in (50, 75)}
        else:
            found = {
                f"AR_{limit}": _mean(recall[:, :, 0, i])
                for i, limit in enumerate(self.max_detections)
            }
        for a, size in enumerate(sizes[1:], 1):
            found[f"AR_{size}"] = _mean(recall[:, :, a, -1])
        return found

    def _match(self, truth: Objects, found: Objects) -> Matches:
        """Matches detections, highest score first, with the objects of one class."""
        ranges = np.array(list(self.sizes.values()))
        low, high = ranges[:, :1], ranges[:, 1:]
        areas = truth["areas"]
        ignored = truth["ignored"] | (areas < low) | (areas > high)
        matched, passed = matched_greedily(
            self._similarity(truth, found), ignored, truth["crowd"]
        )
        areas = found["areas"]
        outside = (areas < low) | (areas > high)
        passed |= ~matched & outside[:, None]
        return Matches(found["scores"], matched, passed, (~ignored).sum(1))

    def _similarity(self, truth: Objects, found: Objects) -> np.ndarray:
        crowd = truth["crowd"]
        if self.kind == "boxes":
            return similarity.box_overlap(found["boxes"], truth["boxes"], crowd)
        if self.kind == "keypoints":
            return similarity.keypoint_similarity(
                found["keypoints"],
                truth["keypoints"],
                truth["boxes"],
                truth["areas"],
                self.sigmas,
            )
        masks = found["masks"], truth["masks"], crowd
        if self.kind == "masks":
            return similarity.mask_overlap(*masks)
        return similarity.boundary_overlap(*masks)

    def _checked(self, objects: Objects, is_truth: bool) -> dict[str, Any]:
        """Arrays of one image, with what was left out, in the shapes that are meant."""
        side = "truth" if is_truth else "detections"
        out: dict[str, Any] = {"classes": np.asarray(objects["classes"], np.int64)}
        count = len(out["classes"])
        bad = out["classes"][(out["classes"] < 1) | (out["classes"] > len(self.names))]
        if len(bad):
            raise ValueError(
                f"{side}: class {bad[0]} is not in 1 to {len(self.names)}, the classes "
                "that are named"
            )
        if not is_truth:
            out["scores"] = np.asarray(objects["scores"], np.float64)
        if "boxes" in objects:
            out["boxes"] = np.asarray(objects["boxes"], np.float64).reshape(-1, 4)
        if self.kind == "keypoints":
            shape = (count, len(self.sigmas), -1)
            out["keypoints"] = np.asarray(objects["keypoints"], np.float64)
            if out["keypoints"].shape[:2] != shape[:2]:
                raise ValueError(
                    f"{side}: keypoints must be [{count}, {len(self.sigmas)}, 3], got "
                    f"shape {out['keypoints'].shape}"
                )
        if self.kind in ("masks", "boundaries"):
            out["masks"] = [
                mask if isinstance(mask, Rle) else encode(mask)
                for mask in objects["masks"]
            ]
        out["areas"] = _areas(objects, out)
        if is_truth:
            out["crowd"] = np.asarray(objects.get("crowd", np.zeros(count)), bool)
            out["ignored"] = out["crowd"]
            if self.kind == "keypoints":
                unlabelled = ~(out["keypoints"][..., 2] > 0).any(1)
                out["ignored"] = out["crowd"] | unlabelled
        for key, values in out.items():
            if len(values) != count:
                raise ValueError(f"{side}: {count} classes, but {len(values)} {key}")
        return out


def _areas(objects: Objects, known: Mapping[str, Any]) -> np.ndarray:
    """Areas of objects, from the most precise source there is."""
    if "areas" in objects:
        return np.asarray(objects["areas"], np.float64)
    if "masks" in known:
        return np.array([rle.area for rle in known["masks"]], np.float64)
    if "boxes" in known:
        return (known["boxes"][:, 2:] - known["boxes"][:, :2]).prod(-1)
    at = known["keypoints"][..., :2]
    return (at.max(1) - at.min(1)).prod(-1) if len(at) else np.zeros(0)


def _chosen(objects: Objects, ids: np.ndarray) -> dict[str, Any]:
    return {
        key: [x[i] for i in ids] if isinstance(x, list) else x[ids]
        for key, x in objects.items()
    }


def _named_precisions(precision: np.ndarray, sizes: list[str]) -> dict[str, float]:
    """Names the average precisions of `[T, R, K, A]`."""
    found = {"AP": _mean(precision[..., 0])}
    found |= {f"AP{t}": _mean(precision[_at(t), ..., 0]) for t in (50, 75)}
    for a, size in enumerate(sizes[1:], 1):
        found[f"AP_{size}"] = _mean(precision[..., a])
    return found


def _at(percent: int) -> int:
    return (percent - 50) // 5


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
