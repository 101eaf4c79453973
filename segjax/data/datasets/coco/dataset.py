"""COCO, and whatever is annotated in its form: JSON files beside folders of images.

    coco/
    ├── annotations/instances_train2017.json, instances_val2017.json
    ├── train2017/000000000009.jpg
    └── val2017/000000000139.jpg

118,287 images to train and 5,000 to validate, 80 kinds of things; Tsung-Yi Lin et al.
2014, arXiv 1405.0312. Files are read where they lie: a prepared copy would take as much
again, and annotations are checked in the time that it takes to read them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.datasets.coco.annotation_files import CocoFile, CocoImage, read_coco
from segjax.data.datasets.coco.categories import category_specs
from segjax.data.datasets.coco.image_places import ImageFolder, some
from segjax.data.files.decoders import opened
from segjax.data.files.images import read_page, with_channels
from segjax.data.instance.records import Facts, FactualRecords
from segjax.data.instance_spec import InstanceSpec
from segjax.errors import UserError
from segjax.types import Record

log = logging.getLogger("segjax")

_CHANNELS = 3


def coco(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    train: str = "annotations/instances_train2017.json",
    validation: str | None = "annotations/instances_val2017.json",
    test: str | None = None,
    train_images: str = "train2017",
    validation_images: str = "val2017",
    test_images: str = "",
    validation_fraction: float = 0.0,
    masks: bool = True,
    keypoints: bool = False,
    raw_ids: bool = False,
    skip_invalid: bool = False,
    allow_unlisted: bool = False,
) -> Dataset:
    """Images with boxes, masks and keypoints in COCO's form.

    Classes are the categories in the order of their ids, from 1; regions marked
    `iscrowd` neither train nor count. Images without any object are kept.

    Args:
      cache_dir: not needed; every data set is called with it.
      data_root: the folder; all other paths are within it.
      train: annotation file of the images to train on.
      validation: that of those to choose by; None where there is none.
      test: that of those held out, where there is one.
      train_images: folder of the images of `train`.
      validation_images: that of `validation`.
      test_images: that of `test`.
      validation_fraction: fraction of the images of `train` that are taken, evenly by their
        ids, to validate, where `validation` is None.
      masks: whether objects need a segmentation; False fills their boxes instead.
      keypoints: whether keypoints are wanted.
      raw_ids: whether class ids are the category ids, gaps included, as in weights that
        were trained on all 91 of COCO.
      skip_invalid: whether wrong annotations, images and categories are left out, logged and
        counted, instead of being refused; COCO itself has a handful of boxes without area.
      allow_unlisted: whether the folders may hold images that no file lists.

    Returns:
      The data set "coco"; `instances.category_ids` are those of the files.

    Raises:
      UserError: a file or an image is missing, an image is not listed, an annotation is
        wrong, there is no object to train on, or the files have different categories.
    """
    del cache_dir
    if data_root is None:
        raise UserError(
            "The data set 'coco' needs annotation files and images; name their folder "
            "with --data_root."
        )
    root = Path(data_root).expanduser()
    if not 0 <= validation_fraction < 1:
        raise UserError(
            f"config.data.validation_fraction is {validation_fraction!r}; it must be at least "
            "0 and less than 1."
        )
    wanted = {
        "train": (train, train_images),
        "validation": (validation, validation_images),
        "test": (test, test_images),
    }
    files, folders, paths = {}, {}, {}
    for split, (name, folder) in wanted.items():
        if name is not None:
            paths[split], folders[split] = root / name, root / folder
            files[split] = read_coco(
                paths[split],
                masks=masks,
                keypoints=keypoints,
                skip_invalid=skip_invalid,
            )
    _require_equal_categories(files)
    images = _placed(files, paths, folders, allow_unlisted=allow_unlisted)
    if validation is None and validation_fraction:
        images |= _cut(images["train"], validation_fraction)
        folders["validation"] = folders["train"]
    if all(image.crowd.all() for image in images["train"]):
        raise UserError(
            f"{paths['train']} has no object to train on (regions marked iscrowd do not "
            "count). Put a file with annotations there."
        )
    first = files["train"]
    spec, objects = category_specs(first.categories, first.keypoints, raw_ids=raw_ids)
    splits = {
        split: _records(images[split], folders[split], objects)
        for split in wanted
        if split in images
    }
    return Dataset("coco", spec, _CHANNELS, splits, objects)


def _records(
    images: Sequence[CocoImage], folder: Path, objects: InstanceSpec
) -> FactualRecords:
    rows = [(*image.size, len(image.boxes)) for image in images]
    table = np.array(rows, np.int64).reshape(-1, 3)
    read = functools.partial(_read, images, folder, dict(objects.class_of))
    return FactualRecords(read, range(len(images)), Facts(table[:, :2], table[:, 2]))


def _read(
    images: Sequence[CocoImage], folder: Path, class_of: dict[int, int], index: int
) -> Record:
    image = images[index]
    path = folder / image.file_name
    pixels = read_page(path)
    if pixels.shape[:2] != image.size:
        raise _other_size(path, (pixels.shape[0], pixels.shape[1]), image.size)
    masks = image.masks()
    known = np.isfinite(image.areas)
    counted = np.array([rle.area for rle in masks], np.float32)
    record = {
        "image": _in_color(pixels, folder),
        "boxes": image.boxes,
        "classes": np.array([class_of[int(c)] for c in image.category_ids], np.int32),
        "crowd": image.crowd,
        "areas": np.where(known, image.areas, counted).astype(np.float32),
        "masks": masks,
        "name": Path(image.file_name).stem,
        "image_id": image.image_id,
    }
    if image.keypoints is not None:
        record["keypoints"] = image.keypoints
    return record


def _in_color(pixels: np.ndarray, folder: Path) -> np.ndarray:
    image = with_channels(pixels, _CHANNELS)
    assert image is not None  # grey becomes RGB, whatever it shows
    if image is not pixels:
        _say_converted(folder)
    return image


@functools.cache
def _say_converted(folder: Path) -> None:
    """Logs, once for a folder, what is found when its first grey image is read."""
    log.info("In %s, some files are grey; their channel is repeated.", folder)


def _cut(images: list[CocoImage], fraction: float) -> dict[str, list[CocoImage]]:
    """Takes a fraction of images to validate, spread evenly."""
    places = np.floor(np.arange(len(images) + 1) * fraction + 0.5)
    taken = np.diff(places) > 0
    if not taken.any():
        raise UserError(
            f"config.data.validation_fraction is {fraction}, which of {len(images)} images is "
            "none. Raise it."
        )
    return {
        "train": [x for x, t in zip(images, taken, strict=True) if not t],
        "validation": [x for x, t in zip(images, taken, strict=True) if t],
    }


def _require_equal_categories(files: dict[str, CocoFile]) -> None:
    first = files["train"]
    for split, file in files.items():
        if dict(file.categories) != dict(first.categories):
            raise UserError(
                f"The annotation file config.data.{split} has other categories than "
                "config.data.train; give files of one data set."
            )
        if file.keypoints != first.keypoints:
            raise UserError(
                f"The annotation file config.data.{split} has other keypoints than "
                "config.data.train; give files of one data set."
            )


def _placed(
    files: dict[str, CocoFile],
    paths: dict[str, Path],
    folders: dict[str, Path],
    *,
    allow_unlisted: bool,
) -> dict[str, list[CocoImage]]:
    """Finds images where they are listed, and checks that they are listed where they lie.

    Returns:
      The images of each split; their `file_name` is the path within the folder.
    """
    opened = {folder: ImageFolder(folder) for folder in folders.values()}
    listed: dict[Path, set[str]] = {folder: set() for folder in opened}
    images = {}
    for split, file in files.items():
        folder, places = opened[folders[split]], listed[folders[split]]
        names = [image.file_name for image in file.images]
        found = folder.places(names, paths[split])
        places.update(found)
        places.update(filter(None, map(folder.place, file.files_left_out)))
        images[split] = [
            image if image.file_name == place else replace(image, file_name=place)
            for image, place in zip(file.images, found, strict=True)
        ]
    for path, places in listed.items():
        unlisted = opened[path].unlisted(places)
        if unlisted and not allow_unlisted:
            raise UserError(
                f"{path} holds {len(unlisted)} images that no annotation file lists: "
                f"{some(unlisted)}. An image without objects must be listed, too; list "
                "them, or leave them out by config.data.allow_unlisted=True."
            )
    return images


def _other_size(
    path: Path, found: tuple[int, int], declared: tuple[int, int]
) -> UserError:
    """The error for an image of another size, `(height, width)`, than its file says."""
    with opened(path, scan=False) as pages:
        stored = pages.page(0).values.shape[:2]
    if stored == declared:
        return UserError(
            f"{path} is stored {declared[0]} high x {declared[1]} wide, as its annotation file "
            f"says, but its orientation tag turns it to {found[0]} x {found[1]}, and so it "
            "is shown. Annotate it as it is shown, or remove the tag if the annotations "
            "fit the stored pixels."
        )
    return UserError(
        f"{path} is {found[0]} high x {found[1]} wide pixels, but its annotation file "
        f"says {declared[0]} x {declared[1]}. Put the image there that was annotated."
    )
