"""ADE20K in the form of the scene parsing challenge: 150 classes of things and stuff.

    ADEChallengeData2016/
    ├── images/{training,validation}/NAME.jpg
    └── annotations/{training,validation}/NAME.png      0 other, 1 to 150 the classes

20,210 images to train, 2,000 to validate. Bolei Zhou et al., CVPR 2017, arXiv 1608.05442;
names as in the challenge's `objectInfo150.txt`, the first of each.
"""

from __future__ import annotations

from pathlib import Path

from segjax.data.dataset import Dataset
from segjax.data.datasets.image_lists import Layout, require_files, require_root
from segjax.data.datasets.pairing import Pair
from segjax.data.files.images import list_images
from segjax.data.files.palette import voc_colors
from segjax.data.label_spec import LabelSpec

_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa,
shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp,
bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand,
sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case,
pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table,
toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer,
swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel, pole,
land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain,
conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall,
tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot,
animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase,
traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board,
shower, radiator, glass, clock, flag
"""
CLASSES = tuple(" ".join(name.split()) for name in _NAMES.split(","))

LABEL_SPEC = LabelSpec(
    CLASSES,
    voc_colors(len(CLASSES) + 1)[1:],
    ignore=0,
    remap=tuple((i + 1, i) for i in range(len(CLASSES))),
)
"""Files count classes from 1 and mark by 0 what is none of them. The challenge gives no
colours as numbers; these are PASCAL VOC's of the stored values."""

_SPLITS = {"train": "training", "validation": "validation"}
_SOURCE = "They are those of ADEChallengeData2016.zip of the scene parsing challenge"


def ade20k(*, cache_dir: str | None, data_root: str | None) -> Dataset:
    """Returns ADE20K's scene parsing: 150 classes, "other" is ignored.

    Files are read where they lie. The few photographs in black and white get three equal
    channels.

    Args:
      cache_dir: where to remember which files were found good (None: TFDS's folder).
      data_root: the folder, usually named ADEChallengeData2016.

    Returns:
      A `Dataset` with "train" and "validation"; names are like "ADE_val_00000001".
      Images differ in size.

    Raises:
      UserError: a folder or a label is missing, a value is above 150, or a file is
        damaged.
    """
    folders = [f"{a}/{b}" for a in ("images", "annotations") for b in _SPLITS.values()]
    root = require_root("ade20k", data_root, folders, _SOURCE)
    splits = {split: _pairs(root, folder) for split, folder in _SPLITS.items()}
    return Layout("ade20k", LABEL_SPEC).dataset(root, splits, cache_dir)


def _pairs(root: Path, folder: str) -> list[Pair]:
    images = list_images(root / "images" / folder)
    labels = root / "annotations" / folder
    pairs = [Pair(image, labels / f"{image.stem}.png") for image in images]
    require_files("ade20k", root, pairs, f"images/{folder} names")
    return pairs
