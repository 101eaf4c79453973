"""A folder of images and of label images that number the objects, such as nuclei.

    nuclei/
    ├── images/ID.png        grey or RGB
    ├── labels/ID.png        16 bits: 0 background, 1, 2, ... the objects
    └── index.csv            columns `id` and `split` (train, validation, test)

Nuclei of the 2018 Data Science Bowl come so (Caicedo et al. 2019, Nature Methods 16,
1247-1253, BBBC038v1). Files are read where they lie.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.images import list_images, read_label, read_page
from segjax.data.instance_records import Facts, FactualRecords, from_masks
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.rle import encode_label
from segjax.types import Record, UserError

SPLITS = ("train", "validation", "test")
INDEX = "index.csv"
_THREADS = 4
_COLORS = ((40, 44, 52), (90, 190, 110))
_ALIASES = {"val": "validation", "valid": "validation"}


def instance_folder(
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    class_name: str = "object",
    validation_share: float = 0.2,
    test_share: float = 0.0,
) -> Dataset:
    """Objects of one class in label images, one number for each object.

    Every label is read once at the start, and checked.

    Args:
      data_dir: not needed; every data set is called with it.
      manual_dir: the folder with `images` and `labels`, and `index.csv` where there is a
        split.
      class_name: what the objects are called.
      validation_share: share of the images, evenly by name, to choose by, where there is
        no `index.csv`.
      test_share: share of those held out.

    Returns:
      The data set "instance_folder" with 3 channels; grey images are repeated.

    Raises:
      UserError: a folder or file is missing, an image has no label or the other way
        round, their sizes differ, or `index.csv` names another split or image.
    """
    del data_dir
    for key, share in (
        ("validation_share", validation_share),
        ("test_share", test_share),
    ):
        if not 0 <= share < 1 or validation_share + test_share >= 1:
            raise UserError(
                f"config.data.{key} is {share!r}; both shares must be at least 0 and "
                "less than 1 together."
            )
    root = _require_root(manual_dir)
    images, labels = (_by_stem(root / name) for name in ("images", "labels"))
    _require_pairs(root, images, labels)
    names = sorted(images)
    if (root / INDEX).is_file():
        splits = _read_index(root / INDEX, names)
    else:
        splits = _cut(names, validation_share, test_share)
    numbers = {name: i + 1 for i, name in enumerate(names)}
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = dict(
            zip(
                names,
                pool.map(lambda n: _look(images[n], labels[n]), names),
                strict=True,
            )
        )
    records = {}
    for split, chosen in splits.items():
        table = np.array([rows[name] for name in chosen], np.int64).reshape(-1, 3)
        read = functools.partial(_read, chosen, images, labels, numbers)
        facts = Facts(table[:, :2], table[:, 2])
        records[split] = FactualRecords(read, range(len(chosen)), facts)
    spec = LabelSpec(("background", class_name), _COLORS, ignore=None)
    return Dataset("instance_folder", spec, 3, records, InstanceSpec((1,)))


def _read(
    names: Sequence[str],
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    numbers: Mapping[str, int],
    index: int,
) -> Record:
    name = names[index]
    image = read_page(images[name])
    masks = encode_label(read_label(labels[name]))
    return from_masks(
        image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1),
        masks,
        np.ones(len(masks), np.int32),
        name=name,
        image_id=numbers[name],
    )


def _look(image_path: Path, label_path: Path) -> tuple[int, int, int]:
    """Height, width and objects of an image, once they are right."""
    image, label = read_page(image_path), read_label(label_path)
    if label.dtype.kind not in "iu" or label.min(initial=0) < 0:
        raise UserError(
            f"{label_path} holds {label.dtype} values, where the numbers of objects "
            "belong, 0 for none. Save it with 16 bits."
        )
    if label.shape != image.shape[:2]:
        raise UserError(
            f"{label_path} is {label.shape[0]} high x {label.shape[1]} wide pixels, but "
            f"{image_path.name} is {image.shape[0]} high x {image.shape[1]} wide. Image "
            "and label must have the same size."
        )
    return (label.shape[0], label.shape[1], len(encode_label(label)))


def _require_root(manual_dir: str | None) -> Path:
    needs = "The data set 'instance_folder' needs images/ and labels/"
    if manual_dir is None:
        raise UserError(f"{needs}; name their folder with --manual_dir.")
    root = Path(manual_dir).expanduser()
    for name in ("images", "labels"):
        if not (root / name).is_dir():
            raise UserError(f"{needs} in {root}, where {name}/ is missing.")
    return root


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise UserError(
                f"{folder} holds {found[path.stem].name} and {path.name}, which have one "
                "name. Remove one of them."
            )
        found[path.stem] = path
    return found


def _require_pairs(
    root: Path, images: Mapping[str, Path], labels: Mapping[str, Path]
) -> None:
    pairs = (("images", images, labels), ("labels", labels, images))
    for kind, own, others in pairs:
        alone = sorted(own.keys() - others.keys())
        if alone:
            other = "labels" if kind == "images" else "images"
            raise UserError(
                f"{root / kind} holds {own[alone[0]].name}, one of {len(alone)} without "
                f"a partner in {other}/. An image without objects needs a label of zeros."
            )


def _read_index(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Images of each split, in the order of the file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "split"} <= rows[0].keys():
        raise UserError(f"{path} needs a first line with the columns id and split.")
    splits: dict[str, list[str]] = {}
    known, seen = set(names), set()
    for number, row in enumerate(rows, 2):
        split = _ALIASES.get(row["split"], row["split"])
        if split not in SPLITS:
            raise UserError(
                f"{path}, line {number}: the split is {row['split']!r}; it must be one of "
                f"{', '.join(SPLITS)}."
            )
        if row["id"] not in known:
            raise UserError(
                f"{path}, line {number}: {row['id']} is listed, but there is no such "
                "image in images/. Put it there, or remove the line."
            )
        if row["id"] in seen:
            raise UserError(f"{path}, line {number}: {row['id']} is listed twice.")
        seen.add(row["id"])
        splits.setdefault(split, []).append(row["id"])
    unlisted = sorted(known - seen)
    if unlisted:
        raise UserError(
            f"images/ holds {unlisted[0]}, one of {len(unlisted)} images that {path} does "
            "not list. Add a line for each, or remove them."
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _cut(names: Sequence[str], validation: float, test: float) -> dict[str, list[str]]:
    """Takes shares of the images, spread evenly by name."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    quota = {"validation": 0.5, "test": 0.5}
    for name in names:
        quota["validation"] += validation
        quota["test"] += test
        split = max(quota, key=lambda key: quota[key])
        if quota[split] >= 1 - 1e-9:
            quota[split] -= 1
        else:
            split = "train"
        splits[split].append(name)
    return {split: chosen for split, chosen in splits.items() if chosen}
