"""COCO's annotation files: read, checked, and returned as arrays.

Every entry that cannot be right is reported in a sentence that names it. Files that people
use hold some (COCO's own a handful of boxes without area), so they can be left out
instead, which is logged and counted.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.datasets.coco.annotation import CocoObject, checked_object
from segjax.data.datasets.coco.entries import (
    Faults,
    ListedImage,
    read_categories,
    read_images,
    read_keypoints,
)
from segjax.data.datasets.coco.fields import identity
from segjax.data.datasets.coco.polygons import polygons_to_rle
from segjax.data.instance_spec import KeypointSpec
from segjax.errors import UserError, shown
from segjax.rle import Rle, encode
from segjax.text_files import parse_json

log = logging.getLogger("segjax")

_LISTS = ("images", "annotations", "categories")

_OF_AN_OBJECT = ("image_id", "category_id", "bbox", "segmentation", "keypoints")


@dataclass(frozen=True)
class CocoImage:
    """An image of a file, with its objects.

    Attributes:
      file_name: within the folder of images.
      image_id: its number; where an id of the file is not one, images are numbered from
        1 in their order.
      size: `(height, width)` as listed.
      boxes: float32 `[N, 4]`, `(y0, x0, y1, x1)`.
      category_ids: int64 `[N]`.
      crowd: bool `[N]`.
      areas: float32 `[N]`; NaN where the file states none.
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
    """The content of a file.

    Attributes:
      images: in the order of their numbers.
      categories: names by category id, ids growing.
      keypoints: of the objects, None where none are wanted.
      num_invalid: annotations that were wrong.
      files_left_out: names of files whose entries were wrong.
    """

    images: tuple[CocoImage, ...]
    categories: Mapping[int, str]
    keypoints: KeypointSpec | None
    num_invalid: int
    files_left_out: tuple[str, ...] = ()


def read_coco(
    path: Path,
    *,
    masks: bool = True,
    keypoints: bool = False,
    skip_invalid: bool = False,
) -> CocoFile:
    """Reads an annotation file and checks all of it.

    Args:
      path: a JSON file with `images`, `annotations` and `categories`.
      masks: whether objects must have a segmentation.
      keypoints: whether keypoints are wanted.
      skip_invalid: whether wrong annotations, images and categories are left out, counted
        and logged, instead of being refused.

    Returns:
      Its images, each with its objects; an image without any is there, too.

    Raises:
      UserError: the file is missing or not such a file, or an entry is wrong: a field is
        of another type, its category or image is not listed, its box has no area or lies
        outside of the image, a polygon has less than three points, run lengths are those
        of another size, or there are keypoints of another number; or nothing is left.
    """
    with _no_collection():
        return _read(path, masks, keypoints, skip_invalid)


def _read(path: Path, masks: bool, keypoints: bool, skip_invalid: bool) -> CocoFile:
    content = _load(path)
    faults = {key: Faults(path, key, drop=skip_invalid) for key in _LISTS}
    categories = read_categories(content["categories"], faults["categories"])
    spec = read_keypoints(content["categories"], path) if keypoints else None
    listed = read_images(content["images"], faults["images"])
    objects: dict[int | str, list[CocoObject]] = {number: [] for number in listed}
    annotations, wrong = content["annotations"], faults["annotations"]
    seen: dict[int | str, Mapping[str, Any]] = {}
    for place, annotation in enumerate(annotations):
        try:
            image = _image_of(annotation, listed)
            found = checked_object(annotation, image, categories, spec, masks=masks)
            _require_new(annotation, seen)
            objects[image.number].append(found)
        except UserError as error:
            wrong.add(place, annotation, error)
    wrong.report(len(annotations), len(annotations) - wrong.count)
    names = [e.get("file_name") for e in content["images"] if isinstance(e, dict)]
    kept = {image.file_name for image in listed.values()}
    return CocoFile(
        tuple(
            _gathered(listed[number], image_id, objects[number], spec)
            for number, image_id in _numbered(listed, path)
        ),
        categories,
        spec,
        wrong.count,
        tuple(n for n in names if isinstance(n, str) and n not in kept),
    )


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Stops the collector of cycles, which finds none among millions of lists, slowly."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"The annotation file {path} does not exist. Check --data_root and "
            "config.data."
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Change its permissions."
        ) from error
    content = parse_json(raw, path)
    lists = isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in _LISTS
    )
    if not lists:
        raise UserError(
            f"{path} is not an annotation file of COCO's form: it needs lists of "
            f"{', '.join(_LISTS)}."
        )
    return content


def _image_of(annotation: Any, listed: Mapping[int | str, ListedImage]) -> ListedImage:
    if type(annotation) is not dict:
        raise UserError(f"it is {shown(annotation)}, where an object belongs.")
    number = annotation.get("image_id")
    image = listed.get(number if type(number) is int else identity(number) or "")
    if image is None:
        raise UserError(
            f"its image_id is {shown(number)}, which is not among the images."
        )
    return image


def _require_new(
    annotation: Mapping[str, Any], seen: dict[int | str, Mapping[str, Any]]
) -> None:
    """Refuses what is listed twice. Another object of the same id is another object."""
    number = annotation.get("id")
    if not isinstance(number, int | str):
        return
    before = seen.setdefault(number, annotation)
    if before is not annotation and all(
        before.get(key) == annotation.get(key) for key in _OF_AN_OBJECT
    ):
        raise UserError("it is listed twice.")


def _numbered(
    listed: Mapping[int | str, ListedImage], path: Path
) -> Sequence[tuple[int | str, int]]:
    """Ids of images with their numbers, in the order of these."""
    text = next((number for number in listed if type(number) is str), None)
    if text is None:
        return [(number, int(number)) for number in sorted(listed, key=int)]
    log.info(
        "%s: the image id %s is not a number, so its images are numbered from 1 in "
        "their order.",
        path,
        shown(text),
    )
    return [(number, place) for place, number in enumerate(listed, 1)]


def _gathered(
    image: ListedImage,
    image_id: int,
    objects: Sequence[CocoObject],
    spec: KeypointSpec | None,
) -> CocoImage:
    keypoints = None
    if spec is not None:
        shape = (-1, len(spec.names), 3)
        keypoints = np.array([o.keypoints for o in objects], np.float32).reshape(shape)
    return CocoImage(
        image.file_name,
        image_id,
        image.size,
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
