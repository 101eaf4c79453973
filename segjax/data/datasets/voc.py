"""PASCAL VOC 2012: 20 kinds of objects and background, in its own folders.

    VOC2012/
    ├── JPEGImages/2007_000063.jpg
    ├── SegmentationClass/2007_000063.png       ids as values of a palette picture
    └── ImageSets/Segmentation/train.txt, val.txt, trainval.txt, trainaug.txt

1,464 images to train and 1,449 to validate; Mark Everingham, Luc Van Gool, Christopher
Williams, John Winn, Andrew Zisserman, IJCV 88(2), 2010. `trainaug` are those and the ones
that Bharath Hariharan et al., ICCV 2011, have labelled (SBD), 10,582 in all.
"""

from __future__ import annotations

import os
from pathlib import Path

from segjax.data.dataset import Dataset
from segjax.data.datasets.image_lists import Layout, require_files, require_root
from segjax.data.datasets.pairing import Pair
from segjax.data.files.palette import voc_colors
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.text_files import read_lines

LISTS = "ImageSets/Segmentation"
CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

LABEL_SPEC = LabelSpec(CLASSES, voc_colors(len(CLASSES)))
"""255, the outlines of objects and what was too hard, is ignored."""

_SOURCE = "They are those of the folder VOC2012 of the challenge's VOCtrainval archive"


def voc(
    *,
    cache_dir: str | None,
    data_root: str | None,
    train: str = "train",
    validation: str = "val",
    test: str | None = None,
    labels: str = "SegmentationClass",
) -> Dataset:
    """Returns photographs in the layout of PASCAL VOC, 21 classes.

    Files are read where they lie. A line of a list is an image's name ("2007_000063"),
    or an image and its label as paths within the folder, as in DeepLab's lists.

    Args:
      cache_dir: where to remember which files were found good (None: TFDS's folder).
      data_root: the folder, usually named VOC2012.
      train: list of the images to train on: "train", "trainval" or "trainaug", a file of
        `ImageSets/Segmentation` without its ending.
      validation: list of those to choose by.
      test: list of those held out, where there is one; without labels where none of its
        images has one.
      labels: folder of the labels; those of "trainaug" often lie in
        "SegmentationClassAug".

    Returns:
      A `Dataset`; names are those of the lists. Images differ in size.

    Raises:
      UserError: a folder, a list or a file is missing, a label is painted in colours or
        has a palette of its own, holds values beyond 20 and 255, or a file is damaged.
    """
    root = require_root("voc", data_root, ("JPEGImages", labels, LISTS), _SOURCE)
    splits = {}
    for split, name in (("train", train), ("validation", validation), ("test", test)):
        if name is None:
            continue
        pairs = _read_list(root, split, name, labels)
        if split == "test" and not any(os.path.exists(p.label or "") for p in pairs):
            pairs = [Pair(pair.image, None) for pair in pairs]
        require_files("voc", root, pairs, f"{LISTS}/{name}.txt names")
        splits[split] = pairs
    layout = Layout("voc", LABEL_SPEC, palette=voc_colors(256))
    return layout.dataset(root, splits, cache_dir)


def _read_list(root: Path, split: str, name: str, labels: str) -> list[Pair]:
    path = root / LISTS / f"{name}.txt"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise UserError(
            f"config.data.{split} is {name!r}, but there is no list {path}; there are: "
            f"{there}."
        )
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if len(words) == 1:
            image = root / "JPEGImages" / f"{words[0]}.jpg"
            pairs.append(Pair(image, root / labels / f"{words[0]}.png"))
        elif len(words) == 2:
            image, label = (root / word.lstrip("/") for word in words)
            pairs.append(Pair(image, label))
        elif words:
            raise UserError(
                f"{path}, line {number}, is {line!r}, where the name of an image, or an "
                "image and its label, are expected. Put the original list there."
            )
    if not pairs:
        raise UserError(f"{path} lists nothing. Put the original list there.")
    return pairs
