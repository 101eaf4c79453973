"""Cityscapes: streets of 50 cities from a car, 19 classes, 1024 x 2048 pixels.

    cityscapes/
    ├── leftImg8bit/{train,val,test}/CITY/NAME_leftImg8bit.png
    └── gtFine/{train,val}/CITY/NAME_gtFine_labelIds.png

2,975 images to train, 500 to validate, 1,525 whose labels are not public. Marius Cordts et
al., CVPR 2016, arXiv 1604.01685; ids and colours as in its scripts (`labels.py`).
"""

from __future__ import annotations

from pathlib import Path

from segjax.data.dataset import Dataset
from segjax.data.datasets.image_lists import Layout, require_files, require_root
from segjax.data.datasets.pairing import Pair
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Id in `labelIds` and colour of each class, by its train id."""

_LARGEST_ID = 33
_TRAIN_ID = {stored: i for i, (stored, _) in enumerate(CLASSES.values())}
_COLORS = tuple(color for _, color in CLASSES.values())

SPECS = {
    "labelIds": LabelSpec(
        tuple(CLASSES),
        _COLORS,
        remap=tuple(
            (stored, _TRAIN_ID.get(stored, IGNORE_LABEL))
            for stored in range(_LARGEST_ID + 1)
        ),
    ),
    "labelTrainIds": LabelSpec(tuple(CLASSES), _COLORS),
}
"""The classes of the two kinds of label files; 255 is ignored in both."""

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_IMAGE = "_leftImg8bit"
_SOURCE = (
    "They are those of leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of "
    "Cityscapes"
)


def cityscapes(
    *,
    cache_dir: str | None,
    data_root: str | None,
    labels: str = "labelIds",
    downscale: int = 1,
) -> Dataset:
    """Returns Cityscapes with its 19 train ids.

    Files are read where they lie.

    Args:
      cache_dir: where to remember which files were found good (None: TFDS's folder).
      data_root: folder with `leftImg8bit` and `gtFine`.
      labels: "labelIds", the files that are given out, or "labelTrainIds", those that
        Cityscapes's scripts make from them.
      downscale: whole factor by which images (averaged) and labels (nearest) are made
        smaller.

    Returns:
      A `Dataset` with "train", "validation" and, where its images lie there, "test",
      which has no labels. Names are like "frankfurt_000000_000294".

    Raises:
      UserError: a folder or a label is missing, a value is not an id, or a file is damaged.
    """
    if labels not in SPECS:
        raise UserError(
            f"config.data.labels is {labels!r}; it must be one of {', '.join(SPECS)}."
        )
    folders = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")
    root = require_root("cityscapes", data_root, folders, _SOURCE)
    splits = {
        split: _pairs(root, folder, labels if split != "test" else None)
        for split, folder in _SPLITS.items()
    }
    layout = Layout("cityscapes", SPECS[labels], suffix=_IMAGE, downscale=downscale)
    return layout.dataset(root, splits, cache_dir)


def _pairs(root: Path, folder: str, labels: str | None) -> list[Pair]:
    images = sorted((root / "leftImg8bit" / folder).glob(f"*/*{_IMAGE}.png"))
    if labels is None:
        return [Pair(image, None) for image in images]
    if not images:
        raise UserError(
            f"{root / 'leftImg8bit' / folder} has no CITY/NAME{_IMAGE}.png. {_SOURCE}; "
            "put them there."
        )
    pairs = []
    for image in images:
        name = f"{image.stem.removesuffix(_IMAGE)}_gtFine_{labels}.png"
        label = root / "gtFine" / folder / image.parent.name / name
        pairs.append(Pair(image, label))
    require_files("cityscapes", root, pairs, f"leftImg8bit/{folder} and {labels} name")
    return pairs
