"""COCO's annotation files: read, checked, and told as arrays.

Every annotation that cannot be right is told in a sentence that names it. Files that
people use hold some (COCO's own a handful of boxes without area), so they can be left
out instead, which is said and counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.coco_annotation import CocoObject, checked_object
from segjax.data.instance_spec import KeypointSpec
from segjax.data.polygons import polygons_to_rle
from segjax.rle import Rle, encode
from segjax.types import UserError

log = logging.getLogger("segjax")


@dataclass(frozen=True)
class CocoImage:
    """An image of a file, with its objects.

    Attributes:
      file_name: within the folder of images.
      image_id: its number.
      size: `(height, width)` as listed.
      boxes: float32 `[N, 4]`, `(y0, x0, y1, x1)`.
      category_ids: int64 `[N]`.
      crowd: bool `[N]`.
      areas: float32 `[N]`; NaN where the file tells none.
      segmentations: polygons as arrays, run lengths, or None, N of them.
      keypoints: float32 `[N, P, 3]`, `(y, x, visibility)`; None where none are wanted.
    """

    file_name: str
    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    category_ids: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    segmentations: tuple[Any, ...]
    keypoints: np.ndarray | None

    def masks(self) -> tuple[Rle, ...]:
        """Draws the masks; an object without segmentation fills its box."""
        return tuple(
            _drawn(segmentation, box, self.size)
            for segmentation, box in zip(self.segmentations, self.boxes, strict=True)
        )


@dataclass(frozen=True)
class CocoFile:
    """What a file says.

    Attributes:
      images: in the order of their numbers.
      categories: names by category id, ids growing.
      keypoints: of the objects, None where none are wanted.
      left_out: annotations that were wrong.
    """

    images: tuple[CocoImage, ...]
    categories: Mapping[int, str]
    keypoints: KeypointSpec | None
    left_out: int


def read_coco(
    path: Path, *, masks: bool = True, keypoints: bool = False, drop_wrong: bool = False
) -> CocoFile:
    """Reads an annotation file and checks all of it.

    Args:
      path: a JSON file with `images`, `annotations` and `categories`.
      masks: whether objects must have a segmentation.
      keypoints: whether keypoints are wanted.
      drop_wrong: whether wrong annotations are left out, counted and logged, instead of
        being refused.

    Returns:
      Its images, each with its objects; an image without any is there, too.

    Raises:
      UserError: the file is missing or no such file, or an annotation is wrong: its
        category or image is not listed, its box has no area or lies outside of the
        image, a polygon has less than three points, run lengths are those of another
        size, or there are keypoints of another number.
    """
    content = _load(path)
    categories = _categories(content["categories"], path)
    spec = _keypoint_spec(content["categories"], path) if keypoints else None
    listed: dict[int, Mapping[str, Any]] = {}
    for image in content["images"]:
        if not {"id", "file_name", "height", "width"} <= image.keys():
            raise UserError(
                f"{path}: an image is listed as {sorted(image)}; it needs id, file_name, "
                "height and width."
            )
        if image["id"] in listed:
            raise UserError(f"{path} lists two images of the id {image['id']}.")
        listed[image["id"]] = image
    objects: dict[int, list[CocoObject]] = {number: [] for number in listed}
    wrong = []
    for annotation in content["annotations"]:
        try:
            image = _image_of(annotation, listed)
            found = checked_object(annotation, image, categories, spec, masks=masks)
            objects[annotation["image_id"]].append(found)
        except UserError as error:
            told = f"{path}, annotation {annotation.get('id')}: {error}"
            if not drop_wrong:
                raise UserError(
                    f"{told} Correct it, or leave such annotations out by "
                    "config.data.drop_wrong=True."
                ) from None
            wrong.append(told)
    if wrong:
        log.warning(
            "%d of %d annotations are wrong and left out. The first: %s",
            len(wrong),
            len(content["annotations"]),
            wrong[0],
        )
    images = tuple(
        _gathered(listed[number], objects[number], spec) for number in sorted(listed)
    )
    return CocoFile(images, categories, spec, len(wrong))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"The annotation file {path} does not exist. Check --manual_dir and "
            "config.data."
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON ({error}). Put a whole file there."
        ) from None
    needed = ("images", "annotations", "categories")
    lists = isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in needed
    )
    if not lists:
        raise UserError(
            f"{path} is no annotation file of COCO's form: it needs lists of "
            f"{', '.join(needed)}."
        )
    return content


def _categories(listed: Sequence[Mapping[str, Any]], path: Path) -> dict[int, str]:
    try:
        found = {int(c["id"]): str(c["name"]) for c in listed}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: each category needs an id and a name.") from None
    if len(found) != len(listed) or not found or min(found) < 1:
        raise UserError(
            f"{path}: categories need different ids from 1 on, got "
            f"{[c['id'] for c in listed][:10]}."
        )
    return dict(sorted(found.items()))


def _keypoint_spec(listed: Sequence[Mapping[str, Any]], path: Path) -> KeypointSpec:
    specs = {
        KeypointSpec(
            tuple(category["keypoints"]),
            tuple((a - 1, b - 1) for a, b in category.get("skeleton", ())),
        )
        for category in listed
        if category.get("keypoints")
    }
    if len(specs) != 1:
        what = "have none" if not specs else "have different ones"
        raise UserError(
            f"{path}: keypoints are wanted, but its categories {what}. Give a file whose "
            "categories have the same keypoints, or config.data.keypoints=False."
        )
    return specs.pop()


def _image_of(
    annotation: Mapping[str, Any], listed: Mapping[int, Mapping[str, Any]]
) -> Mapping[str, Any]:
    number = annotation.get("image_id")
    if not isinstance(number, int) or number not in listed:
        raise UserError(f"its image_id is {number!r}, which is not among the images.")
    return listed[number]


def _gathered(
    image: Mapping[str, Any], objects: Sequence[CocoObject], spec: KeypointSpec | None
) -> CocoImage:
    keypoints = None
    if spec is not None:
        shape = (-1, len(spec.names), 3)
        keypoints = np.array([o.keypoints for o in objects], np.float32).reshape(shape)
    return CocoImage(
        str(image["file_name"]),
        int(image["id"]),
        (int(image["height"]), int(image["width"])),
        np.array([o.box for o in objects], np.float32).reshape(-1, 4),
        np.array([o.category_id for o in objects], np.int64),
        np.array([o.crowd for o in objects], bool),
        np.array([o.area for o in objects], np.float32),
        tuple(o.segmentation for o in objects),
        keypoints,
    )


def _drawn(segmentation: Any, box: np.ndarray, size: tuple[int, int]) -> Rle:
    if isinstance(segmentation, Rle):
        return segmentation
    if segmentation is not None:
        return polygons_to_rle(segmentation, size)
    mask = np.zeros(size, bool)
    top, left, bottom, right = np.rint(box).astype(int)
    mask[top:bottom, left:right] = True
    return encode(mask)
