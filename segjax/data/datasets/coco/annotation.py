"""One annotation of COCO's files, checked: what is wrong with it is reported in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data.datasets.coco.entries import ListedImage
from segjax.data.datasets.coco.fields import identity, integer, numbers
from segjax.data.instance_spec import KeypointSpec
from segjax.errors import UserError, shown
from segjax.rle import from_counts, from_string

SLACK = 1.0
"""By which a box may reach beyond its image, pixels; rounded annotations do."""

REACH = 10
"""How far coordinates may lie from an image, in multiples of its longer side: outlines of
large objects in small cut-outs overhang, and numbers beyond are none of this image."""

_LARGEST = 1e12
"""Of the numbers of a box and of an area; an image has at most 2.1e9 pixels."""

PIXEL_CENTER = 0.5
"""COCO's keypoints are numbers of pixels; ours are places, as boxes are."""


class CocoObject(NamedTuple):
    """An annotation that was found right; a tuple, as there are millions.

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
    annotation: Any,
    image: ListedImage,
    categories: Mapping[int, str],
    spec: KeypointSpec | None,
    *,
    masks: bool,
) -> CocoObject:
    """Checks an annotation.

    Args:
      annotation: an object of the file, of whatever content.
      image: that of the annotation.
      categories: names by id.
      spec: the keypoints that are wanted, None for none.
      masks: whether it must have a segmentation.

    Returns:
      Its object.

    Raises:
      UserError: if it is wrong; the message is a sentence about "it".
    """
    category = annotation.get("category_id")
    if type(category) is not int:
        category = identity(category)
    if category not in categories:
        raise UserError(
            f"its category_id is {shown(annotation.get('category_id'))}, which is not "
            f"among the categories {_some(list(categories))}."
        )
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1, None):
        raise UserError(
            f"its iscrowd is {shown(crowd)}, where the number 0 or 1 belongs."
        )
    segmentation = None
    if masks:
        segmentation = _segmentation(annotation.get("segmentation"), image.size)
    return CocoObject(
        _box(annotation.get("bbox"), image.size, image.file_name),
        category,
        bool(crowd),
        _area(annotation.get("area")),
        segmentation,
        None if spec is None else _keypoints(annotation, len(spec.names), image.size),
    )


def _box(
    given: Any, size: tuple[int, int], name: str
) -> tuple[float, float, float, float]:
    if numbers(given, _LARGEST) is None or len(given) != 4:
        raise UserError(
            f"its bbox is {shown(given)}, where [x, y, width, height] belongs."
        )
    x, y, width, height = given
    if width <= 0 or height <= 0:
        raise UserError(f"its box {shown(given)} (x, y, width, height) has no area.")
    high, wide = size
    beyond = max(-x, -y, x + width - wide, y + height - high)
    touches = x < wide and y < high and x + width > 0 and y + height > 0
    if beyond > SLACK or not touches:
        raise UserError(
            f"its box {shown(given)} (x, y, width, height) reaches outside of {name}, "
            f"which is {wide} wide and {high} high."
        )
    return (
        max(float(y), 0.0),
        max(float(x), 0.0),
        min(float(y + height), float(high)),
        min(float(x + width), float(wide)),
    )


def _area(given: Any) -> float:
    """The annotated area, NaN where there is none."""
    if given is None or given != given:
        return math.nan
    if type(given) not in (int, float) or not 0 <= given <= _LARGEST:
        raise UserError(
            f"its area is {shown(given)}, where a number of pixels belongs, or nothing."
        )
    return float(given)


def _segmentation(given: Any, size: tuple[int, int]) -> Any:
    """Polygons as arrays, or run lengths of the image's size."""
    if not given:
        raise UserError(
            "it has no segmentation; to train on boxes alone set config.data.masks=False."
        )
    if type(given) is dict:
        return _run_lengths(given, size)
    if type(given) is not list:
        raise UserError(
            f"its segmentation is {shown(given)}, where polygons or run lengths belong."
        )
    if type(given[0]) in (int, float):
        given = [given]  # one polygon, without the list around it
    return tuple([_polygon(polygon, size) for polygon in given])


def _run_lengths(given: Mapping[str, Any], size: tuple[int, int]) -> Any:
    declared, counts = given.get("size"), given.get("counts")
    if type(declared) is not list or len(declared) != 2:
        raise UserError(
            f"its run lengths have the size {shown(declared)}, where [height, width] belongs."
        )
    if tuple(map(integer, declared)) != size:
        raise UserError(
            f"its run lengths are those of {shown(declared[0])} x {shown(declared[1])} pixels, "
            f"but its image is {size[0]} high and {size[1]} wide."
        )
    if isinstance(counts, str):
        rle = from_string(counts, size)
    else:
        rle = from_counts(counts, size)
    if not rle.area:
        raise UserError("its run lengths hold no pixel.")
    return rle


def _polygon(given: Any, size: tuple[int, int]) -> np.ndarray:
    """A polygon `x0, y0, x1, y1, ...`, float64."""
    if type(given) is list and given and type(given[0]) is list:
        given = _flat(given)
    if type(given) is not list:
        raise UserError(
            f"a polygon of it is {shown(given)}, where a list of numbers belongs."
        )
    limit = REACH * max(size)
    found = numbers(given, limit)
    if found is None:
        wrong = next(value for value in given if numbers([value], limit) is None)
        raise UserError(
            f"a polygon of it holds {shown(wrong)}, where numbers belong that lie in its "
            f"image, {size[1]} wide and {size[0]} high, or near it."
        )
    count = len(given)
    if count < 6 or count % 2:
        points = f"{count // 2} points" if count % 2 == 0 else f"{count} numbers"
        raise UserError(
            f"a polygon of it has {points}; it needs x and y of three or more."
        )
    return np.array(found)


def _flat(points: Sequence[Any]) -> list[Any]:
    """Numbers of a polygon that is written as pairs."""
    if any(type(point) is not list or len(point) != 2 for point in points):
        raise UserError(
            f"a polygon of it is {shown(points)}, where x and y of each point belong."
        )
    return [number for point in points for number in point]


def _keypoints(
    annotation: Mapping[str, Any], count: int, size: tuple[int, int]
) -> np.ndarray:
    """`(y, x, visibility)` of each point `[P, 3]`; zeros where it has none."""
    given = annotation.get("keypoints")
    if given is None:
        return np.zeros((count, 3), np.float32)
    if type(given) is list and len(given) != 3 * count:
        raise UserError(
            f"it has {len(given)} numbers of keypoints, but its category has {count} "
            f"points of 3 numbers each, {3 * count}."
        )
    found = numbers(given, REACH * max(size))
    if found is None or not set(found[2::3]) <= {0, 1, 2}:
        raise UserError(
            f"its keypoints are {shown(given)}, where x, y in pixels and 0, 1 or 2 (not "
            "labelled, hidden, visible) belong for each."
        )
    x, y, visibility = np.array(found, np.float32).reshape(count, 3).T
    labelled = visibility > 0
    at = [np.where(labelled, c + PIXEL_CENTER, 0) for c in (y, x)]
    return np.stack([*at, visibility], axis=-1).astype(np.float32)


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:10]))
    return shown + (f", ... {values[-1]}" if len(values) > 10 else "")
