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
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from segjax.data.dataset import Dataset, LazyRecords
from segjax.data.datasets.folder_check import check_pairs, remembered
from segjax.data.datasets.folder_records import read_record
from segjax.data.datasets.groups import group_cut, groups_of, require_apart
from segjax.data.datasets.label_meanings import meaning_of, spec_of
from segjax.data.datasets.pairing import (
    SPLITS,
    Page,
    Pair,
    block_cut,
    by_name,
    find_pairs,
    folders_in,
    labelled_pairs,
    only_pages,
    pairs_beside,
    require_fractions,
    require_train,
)
from segjax.data.datasets.split_index import has_splits, index_of, listed_splits
from segjax.data.files.channels import (
    conversion,
    count_of,
    require_channels,
    require_same_names,
)
from segjax.data.files.images import SUFFIXES
from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

log = logging.getLogger("segjax")

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
    ignored_colors: Sequence[Sequence[int]] = (),
    validation_fraction: float = 0.2,
    test_fraction: float = 0.0,
    group: str | None = None,
    balance: str | None = None,
    pages: Sequence[int] = (),
    undivided: bool = False,
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
      labels: one of `label_meanings.LABELS`. "instances": label files number the objects, 0 is none;
        classes are background and object. "instances_with_border": a third class is the
        outline of each object, which tells touching ones apart. Records then have
        `cells` `[H, W]`, the numbers. "colors": a pixel is of the class whose colour it has.
        "overlapping": a pixel holds the sum of its classes, of which the first is 1, the
        second 2, then 4, 8 and so on, up to seven; 0 is of none.
        Outlines (ImageJ's ROIs, GeoJSON) are filled with their class, or with numbers.
      border_width: of the outline, pixels.
      ignored_colors: where labels are colours, those of pixels that do not count.
      validation_fraction: part of the images for validation, in [0, 1).
      test_fraction: part of the images for test, in [0, 1).
      group: what images have in common that are never in two splits, such as an animal: a
        column of `index.csv`, or a regular expression over their names with one group.
        Then fractions are of the groups, and stacks are not cut.
      balance: what kinds of images there are, such as stains, given like `group`: training
        sees rare kinds more often (`segjax.data.semantic.batches.shares_of`).
      pages: places of those that are used of each file, from 0; empty for all.
      undivided: whether all images that have labels are one split, "all", for measuring;
        then there need not be any to train on.

    Returns:
      A `Dataset`; a split that would be empty is left out. Records are decoded when
      they are asked for. Names are stems, "stack/007" for pages.

    Raises:
      UserError: a folder is missing or empty, image and label do not match in name,
        pages or size, a label value is outside the spec, an image has nothing but
        ignored pixels, all labels have one class only, another number of channels, or
        a file cannot be read.
    """
    spec = spec_of(classes, ignore, remap)
    wanted = require_channels(channels, "config.data.channels")
    require_fractions(validation_fraction, test_fraction)
    root = _require_root(data_root)
    found = _find_splits(root, undivided)
    if undivided:
        found = {"all": labelled_pairs(found, root)}
    every_pair = [pair for pairs in found.values() for pair in pairs]
    meaning = meaning_of(spec, labels, border_width, ignored_colors)
    spec = meaning if isinstance(meaning, OverlappingClasses) else spec
    with remembered(cache_dir, root, meaning, wanted) as known:
        facts = check_pairs(every_pair, meaning, wanted, known)
    require_same_names({path: f.channel_names for path, f in facts.items()})

    if converted := sum(f.converted for f in facts.values()):
        log.info("In %s, %s", root, conversion(converted, count_of(wanted)))
    if not undivided or spec.ignore is not None:
        _require_two_classes(root, spec, {c for f in facts.values() for c in f.classes})

    def counted(split: str) -> list[tuple[Pair, int]]:
        return [(pair, facts[pair.image].pages) for pair in found.get(split, ())]

    index = None if undivided else index_of(root)
    names = [pair.name for pair in every_pair]
    groups = None if group is None or undivided else groups_of(names, group, index)
    if index is not None and "all" in found and (not groups or has_splits(index)):
        parts = listed_splits(index, _every_page(counted("all")))
    elif undivided:
        parts = {"all": _every_page(counted("all"))}
    elif "train" not in found:
        parts = _cut(counted("all"), groups, validation_fraction, test_fraction)
    else:
        parts = {name: _every_page(counted(name)) for name in SPLITS}
        if "validation" not in found:
            cut = _cut(counted("train"), groups, validation_fraction, 0.0)
            parts |= {"train": cut["train"], "validation": cut["validation"]}
    if groups:
        require_apart(parts, groups)
    parts = only_pages(parts, pages)
    splits = {
        name: LazyRecords(
            functools.partial(read_record, part, meaning, wanted), range(len(part))
        )
        for name, part in parts.items()
        if part
    }
    if not undivided:
        require_train(splits, root, index)
    group_by_name = groups or {name: name for name in names}  # or else by file
    group_of = _by_split(parts, group_by_name)
    sizes = [facts[page.pair.image].pixel_size for page in parts.get("train", ())]
    stated = [size for size in sizes if size is not None]
    kinds = None
    if balance is not None and not undivided:
        kinds = groups_of(names, balance, index, "balance")
    return Dataset(
        "folder",
        spec,
        count_of(wanted),
        splits,
        groups=group_of,
        kinds=kinds and _by_split(parts, kinds),
        pixel_size=_median(stated) if stated else None,
        image_hashes={
            split: [facts[page.pair.image].hashes[page.index] for page in part]
            for split, part in parts.items()
        },
    )


def _by_split(
    parts: Mapping[str, Sequence[Page]], of_image: Mapping[str, str]
) -> dict[str, list[str]]:
    """What is known of the image of each page."""
    return {
        split: [of_image[page.pair.name] for page in part]
        for split, part in parts.items()
    }


def _median(sizes: Sequence[tuple[float, float]]) -> tuple[float, float]:
    height, width = (statistics.median(side) for side in zip(*sizes, strict=True))
    return height, width


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
        f"In the labels of {root} every pixel is {spec.value_names[only]!r} (class {only})"
        f"{ignored}, so there is nothing to tell apart. If another value means a class, "
        f"say so, as in remap=((255, {spec.num_classes - 1}),)."
    )


def _find_splits(root: Path, undivided: bool = False) -> dict[str, list[Pair]]:
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
    if "train" not in named and not (undivided and named):
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
    groups: Mapping[str, str] | None,
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[Page]]:
    """Cuts single images by the hash of their name, and stacks into blocks of pages."""
    if groups is not None:
        every = _every_page(counted)
        return group_cut(every, groups, validation_fraction, test_fraction)
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
