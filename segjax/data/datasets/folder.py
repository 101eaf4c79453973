"""A plain folder as a data set: `images/` and `labels/`, same names up to the ending.

    cells/                     or, with splits of your own:
    ├── images/                cells/
    │   ├── a.png              ├── train/images  train/labels
    │   └── stack.tif          ├── validation/images  validation/labels
    └── labels/                └── test/images  (test/labels)
        ├── a.png
        └── stack.tif

With `index.csv` (columns `id` and `split`) beside `images/`, that names the splits.
Files are read where they lie; nothing is copied. Every file is decoded and checked once
before training, and the result is remembered until a file changes.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from segjax.data.dataset import Dataset, LazyRecords
from segjax.data.datasets.folder_check import Meaning, check_pairs, remembered
from segjax.data.datasets.pairing import (
    SPLITS,
    Page,
    Pair,
    block_cut,
    by_name,
    find_pairs,
    folders_in,
    pairs_beside,
    require_train,
)
from segjax.data.datasets.split_index import index_of, listed_splits
from segjax.data.files.channels import (
    Channels,
    choose,
    conversion,
    count_of,
    require_channels,
    require_same_names,
)
from segjax.data.files.images import SUFFIXES, read_label, read_layout, read_page
from segjax.data.instance_labels import InstanceLabels
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL, Record, is_count

log = logging.getLogger("segjax")

LABELS = ("classes", "instances", "instances_with_border")
"""What the numbers in label files are: class ids, or numbers of objects."""

BLACK_AND_WHITE = (("membrane", (0, 0, 0)), ("cell", (255, 255, 255)))


def folder(
    *,
    cache_dir: str | None,
    data_root: str | None,
    classes: Sequence[tuple[str, Sequence[int]]] = BLACK_AND_WHITE,
    ignore: int | None = IGNORE_LABEL,
    remap: Sequence[tuple[int, int]] = (),
    channels: int | Sequence[int | str] = 1,
    labels: str = "classes",
    border_width: int = 1,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.0,
) -> Dataset:
    """Returns the images and labels of a folder, one record per image or page.

    Without sub-folders `train`, `validation` and `test`, images are ordered by a hash of
    their stem and the fractions are cut off that order: the same files always give the
    same splits, wherever they lie. The pages of a stack stay in blocks, since
    neighbouring sections look alike: its first pages train, then come those of
    validation, the last are for test. A fraction above 0 takes at least one image, and one
    page of every stack. With `train` but without `validation`, that fraction is cut off
    `train`.

    Args:
      cache_dir: where to remember which files were found good (None: TFDS's folder).
      data_root: the folder.
      classes: pairs (name, (red, green, blue)); the position is the class id.
      ignore: stored value of pixels that do not count, or None.
      remap: pairs (stored value, class id), such as `((255, 1),)` for masks.
      channels: how many, the same for all images, such as 1 (grey) or 3 (RGB); or which, by
        number from 0 or by name, such as `("DAPI", "GFP")` or `(0, 2)`. Where 3 are
        wanted, grey images are repeated; where 1 is, RGB images that are grey are taken
        for such.
      labels: one of `LABELS`. "instances": label files number the objects, 0 is none;
        classes are background and object. "instances_with_border": a third class is the
        outline of each object, which tells touching ones apart. Records then have
        `cells` `[H, W]`, the numbers.
      border_width: of the outline, pixels.
      validation_fraction: part of the images for validation, in [0, 1).
      test_fraction: part of the images for test, in [0, 1).

    Returns:
      A `Dataset`; a split that would be empty is left out. Records are decoded when
      they are asked for. Names are stems, "stack/007" for pages.

    Raises:
      UserError: a folder is missing or empty, image and label do not match in name,
        pages or size, a label value is outside the spec, an image has nothing but
        ignored pixels, all labels have one class only, another number of channels, or
        a file cannot be read.
    """
    spec = _spec(classes, ignore, remap)
    wanted = require_channels(channels, "config.data.channels")
    _require_fractions(validation_fraction, test_fraction)
    root = _require_root(data_root)
    found = _find_splits(root)
    every_pair = [pair for pairs in found.values() for pair in pairs]
    meaning = _meaning(spec, labels, border_width)
    with remembered(cache_dir, root, meaning, wanted) as known:
        facts = check_pairs(every_pair, meaning, wanted, known)
    require_same_names({path: f.channel_names for path, f in facts.items()})

    if converted := sum(f.converted for f in facts.values()):
        log.info("In %s, %s", root, conversion(converted, count_of(wanted)))
    _require_two_classes(root, spec, {c for f in facts.values() for c in f.classes})

    def counted(split: str) -> list[tuple[Pair, int]]:
        return [(pair, facts[pair.image].pages) for pair in found.get(split, ())]

    index = index_of(root)
    if index is not None and "all" in found:
        parts = listed_splits(index, _every_page(counted("all")))
    elif "train" not in found:
        parts = _cut(counted("all"), validation_fraction, test_fraction)
    else:
        parts = {name: _every_page(counted(name)) for name in SPLITS}
        if "validation" not in found:
            cut = _cut(counted("train"), validation_fraction, 0.0)
            parts |= {"train": cut["train"], "validation": cut["validation"]}
    splits = {
        name: LazyRecords(
            functools.partial(_read_record, part, meaning, wanted), range(len(part))
        )
        for name, part in parts.items()
        if part
    }
    require_train(splits, root, index)
    return Dataset("folder", spec, count_of(wanted), splits)


def _read_record(
    pages: Sequence[Page], meaning: Meaning, channels: Channels, index: int
) -> Record:
    page = pages[index]
    path = page.pair.image
    names = () if isinstance(channels, int) else read_layout(path).channel_names
    image = choose(read_page(path, page.index), channels, names, page.where(path))
    if image is None:
        raise UserError(
            f"{page.where(path)} has other channels than when it was checked. "
            "Let nothing write to it, and start again."
        )
    record = {"image": image, "name": page.name}
    if (label := page.pair.label) is not None:
        raw = read_label(label, page.index)
        record["label"] = meaning.to_ids(raw, page.where(label))
        if isinstance(meaning, InstanceLabels):
            record["cells"] = raw
    return record


def _spec(
    classes: Sequence[tuple[str, Sequence[int]]],
    ignore: int | None,
    remap: Sequence[tuple[int, int]],
) -> LabelSpec:
    try:
        names = tuple(str(name) for name, _ in classes)
        colors = tuple((int(r), int(g), int(b)) for _, (r, g, b) in classes)
        pairs = tuple((int(value), int(class_id)) for value, class_id in remap)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config.data.classes is {classes!r} and remap {remap!r}; give pairs (name, "
            '(red, green, blue)), as in ("cell", (255, 255, 255)), and pairs (stored '
            "value, class id), as in (255, 1)."
        ) from error
    return LabelSpec(names, colors, ignore, pairs)


def _meaning(spec: LabelSpec, labels: str, border_width: int) -> Meaning:
    """What turns stored values into class ids."""
    if labels not in LABELS:
        raise UserError(
            f"config.data.labels is {labels!r}; use one of {', '.join(LABELS)}."
        )
    if labels == "classes":
        return spec
    names = ["background", "object", "border"][: LABELS.index(labels) + 1]
    if spec.num_classes != len(names):
        raise UserError(
            f"config.data.labels is {labels!r}, which makes {len(names)} classes, but "
            f"config.data.classes has {spec.num_classes}: name {', '.join(names)}."
        )
    if not is_count(border_width):
        raise UserError(
            f"config.data.border_width is an integer of at least 1, got {border_width!r}."
        )
    return InstanceLabels(spec, border_width if labels == LABELS[2] else 0)


def _require_fractions(validation_fraction: float, test_fraction: float) -> None:
    for key, fraction in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
        ("validation_fraction + test_fraction", validation_fraction + test_fraction),
    ):
        if not 0 <= fraction < 1:
            raise UserError(
                f"config.data.{key} is {fraction}; give a fraction of at least 0 and below 1."
            )


def _require_root(data_root: str | None) -> Path:
    if data_root is None:
        raise UserError(
            "The data set 'folder' needs a folder with images/ and labels/. Name it "
            "with --data_root."
        )
    root = Path(data_root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Name the right one with --data_root.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(
            f"{root} may not be read (permission denied). Change its permissions."
        )
    return root


def _require_two_classes(root: Path, spec: LabelSpec, seen: set[int]) -> None:
    """Stops what black-and-white masks without a remap would do: white is ignored."""
    if len(seen) > 1:
        return
    (only,) = seen
    ignored = "" if spec.ignore is None else f" or ignored (value {spec.ignore})"
    raise UserError(
        f"In the labels of {root} every pixel is {spec.names[only]!r} (class {only})"
        f"{ignored}, so there is nothing to tell apart. If another value means a class, "
        f"say so, as in remap=((255, {spec.num_classes - 1}),)."
    )


def _find_splits(root: Path) -> dict[str, list[Pair]]:
    """Returns the pairs of each split, or of "all" where there are no sub-folders."""
    plain = (root / "images").is_dir()
    named = [name for name in SPLITS if (root / name).is_dir()]
    unknown = [path for path in folders_in(root) if path.name not in SPLITS]
    with_images = [path.name for path in unknown if (path / "images").is_dir()]
    if plain and named:
        raise UserError(
            f"{root} has images/ and also {named[0]}/, so the splits are not clear. "
            "Keep images/ and labels/, or train/, validation/ and test/."
        )
    if with_images and not plain:
        other = with_images[0]
        remedy = "move it elsewhere" if named else f"give --data_root={root / other}"
        raise UserError(
            f"{root} has {other}/ with images/ in it, which is not a split: the names are "
            f"{', '.join(SPLITS)}. Rename it, or {remedy}."
        )
    if plain:
        return {"all": _find_pairs(root, labelled=True)}
    if not named and (beside := _pairs_beside(root)):
        return {"all": beside}
    if "train" not in named:
        raise UserError(
            f"{root} has neither images/ and labels/ nor train/. Make the first two, "
            "or name another folder with --data_root."
        )
    return {
        name: _find_pairs(
            root / name, labelled=name != "test" or (root / name / "labels").exists()
        )
        for name in named
    }


def _find_pairs(root: Path, *, labelled: bool) -> list[Pair]:
    """Pairs images and labels by their names."""
    if not (root / "images").is_dir() and (beside := _pairs_beside(root)):
        return beside
    if labelled:
        return find_pairs(root / "images", root / "labels")
    images = by_name(root / "images")
    return [Pair(path, None, name) for name, path in images.items()]


def _pairs_beside(root: Path) -> list[Pair]:
    """Pairs what lies in the folder itself; one without images is not searched through."""
    found = any(path.suffix.lower() in SUFFIXES for path in root.iterdir())
    return pairs_beside(root) if found else []


def _every_page(counted: Sequence[tuple[Pair, int]]) -> list[Page]:
    return [Page(pair, i, count) for pair, count in counted for i in range(count)]


def _cut(
    counted: Sequence[tuple[Pair, int]],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[Page]]:
    """Cuts single images by the hash of their stem, and stacks into blocks of pages."""
    single = [Page(pair, 0, 1) for pair, count in counted if count == 1]
    by_hash = sorted(single, key=lambda page: _hash(page.pair.name))
    stacks = [_every_page([entry]) for entry in counted if entry[1] > 1]
    parts: dict[str, list[Page]] = {name: [] for name in SPLITS}
    for pages in (by_hash, *stacks):
        for name, cut in block_cut(pages, validation_fraction, test_fraction).items():
            parts[name] += cut
    # Back to the order of the folder, which is the one that the user expects.
    place = {page: i for i, page in enumerate(_every_page(counted))}
    return {name: sorted(part, key=place.__getitem__) for name, part in parts.items()}


def _hash(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()
