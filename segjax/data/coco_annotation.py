"""One annotation of COCO's files, checked: what is wrong with it is told in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.data.instance_spec import KeypointSpec
from segjax.rle import from_counts, from_string
from segjax.types import UserError

SLACK = 1.0
"""By which a box may reach beyond its image, pixels; rounded annotations do."""

PIXEL_CENTER = 0.5
"""COCO's keypoints are numbers of pixels; ours are places, as boxes are."""


@dataclass(frozen=True)
class CocoObject:
    """An annotation that was found right.

    Attributes:
      box: `(y0, x0, y1, x1)` within the image.
      category_id: one that is listed.
      crowd: whether it is a region of many objects.
      area: as annotated, NaN where it is not.
      segmentation: polygons as a tuple of arrays, run lengths, or None.
      keypoints: float32 `[P, 3]`, `(y, x, visibility)`, or None.
    """

    box: tuple[float, float, float, float]
    category_id: int
    crowd: bool
    area: float
    segmentation: Any
    keypoints: np.ndarray | None


def checked_object(
    annotation: Mapping[str, Any],
    image: Mapping[str, Any],
    categories: Mapping[int, str],
    spec: KeypointSpec | None,
    *,
    masks: bool,
) -> CocoObject:
    """Checks an annotation.

    Args:
      annotation: as it stands in the file.
      image: the entry of its image.
      categories: names by id.
      spec: the keypoints that are wanted, None for none.
      masks: whether it must have a segmentation.

    Returns:
      Its object.

    Raises:
      UserError: if it is wrong; the message is a sentence about "it".
    """
    size = (int(image["height"]), int(image["width"]))
    category = annotation.get("category_id")
    if not isinstance(category, int) or category not in categories:
        raise UserError(
            f"its category_id is {category!r}, which is not among the categories "
            f"{_some(list(categories))}."
        )
    crowd = bool(annotation.get("iscrowd", 0))
    segmentation = None
    if masks:
        segmentation = _segmentation(annotation.get("segmentation"), size)
    return CocoObject(
        _box(annotation.get("bbox"), size, str(image["file_name"])),
        category,
        crowd,
        float(annotation.get("area", math.nan)),
        segmentation,
        None if spec is None else _keypoints(annotation, len(spec.names)),
    )


def _box(
    given: Any, size: tuple[int, int], name: str
) -> tuple[float, float, float, float]:
    numbers = isinstance(given, Sequence) and len(given) == 4
    if not numbers or not all(
        isinstance(v, int | float) and math.isfinite(v) for v in given
    ):
        raise UserError(f"its bbox is {given!r}, where [x, y, width, height] belongs.")
    x, y, width, height = given
    if width <= 0 or height <= 0:
        raise UserError(f"its box {given} (x, y, width, height) has no area.")
    high, wide = size
    beyond = max(-x, -y, x + width - wide, y + height - high)
    touches = x < wide and y < high and x + width > 0 and y + height > 0
    if beyond > SLACK or not touches:
        raise UserError(
            f"its box {given} (x, y, width, height) reaches outside of {name}, which is "
            f"{wide} wide and {high} high."
        )
    return (
        max(float(y), 0.0),
        max(float(x), 0.0),
        min(float(y + height), float(high)),
        min(float(x + width), float(wide)),
    )


def _segmentation(given: Any, size: tuple[int, int]) -> Any:
    """Polygons as arrays, or run lengths of the image's size."""
    if isinstance(given, Mapping) and {"size", "counts"} <= given.keys():
        if tuple(given["size"]) != size:
            raise UserError(
                f"its run lengths are those of {given['size'][0]} x {given['size'][1]} "
                f"pixels, but its image is {size[0]} high and {size[1]} wide."
            )
        counts = given["counts"]
        if isinstance(counts, str | bytes):
            return from_string(counts, size)
        return from_counts(counts, size)
    if not isinstance(given, Sequence) or isinstance(given, str) or not len(given):
        raise UserError(
            "it has no segmentation; to train on boxes alone set config.data.masks=False."
        )
    for polygon in given:
        count = len(polygon) if isinstance(polygon, Sequence) else 0
        if count < 6 or count % 2:
            points = f"{count // 2} points" if count % 2 == 0 else f"{count} numbers"
            raise UserError(
                f"a polygon of it has {points}; it needs x and y of three or more."
            )
    return tuple(np.asarray(polygon, np.float64) for polygon in given)


def _keypoints(annotation: Mapping[str, Any], count: int) -> np.ndarray:
    """`(y, x, visibility)` of each point `[P, 3]`; zeros where it has none."""
    given = annotation.get("keypoints")
    if given is None:
        return np.zeros((count, 3), np.float32)
    if len(given) != 3 * count:
        raise UserError(
            f"it has {len(given)} numbers of keypoints, but its category has {count} "
            f"points of 3 numbers each, {3 * count}."
        )
    x, y, visibility = np.asarray(given, np.float32).reshape(count, 3).T
    labelled = visibility > 0
    at = [np.where(labelled, c + PIXEL_CENTER, 0) for c in (y, x)]
    return np.stack([*at, visibility], axis=-1).astype(np.float32)


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:10]))
    return shown + (f", ... {values[-1]}" if len(values) > 10 else "")
