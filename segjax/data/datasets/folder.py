"""A plain folder as a data set: `images/` and `labels/`, same names up to the ending.

    cells/                     or, with splits of your own:
    ├── images/                cells/
    │   ├── a.png              ├── train/images  train/labels
    │   └── stack.tif          ├── validation/images  validation/labels
    └── labels/                └── test/images  (test/labels)
        ├── a.png
        └── stack.tif

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
from segjax.data.datasets.folder_check import check_pairs, remembered
from segjax.data.datasets.pairing import (
    SPLITS,
    Page,
    Pair,
    block_cut,
    by_stem,
    find_pairs,
    folders_in,
    require_train,
    stem_of,
)
from segjax.data.files.images import conversion, read_label, read_page, with_channels
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL, Record

log = logging.getLogger("segjax")

BLACK_AND_WHITE = (("membrane", (0, 0, 0)), ("cell", (255, 255, 255)))


def folder(
    *,
    cache_dir: str | None,
    data_root: str | None,
    classes: Sequence[tuple[str, Sequence[int]]] = BLACK_AND_WHITE,
    ignore: int | None = IGNORE_LABEL,
    remap: Sequence[tuple[int, int]] = (),
    channels: int = 1,
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
      channels: 1 (grey) or 3 (RGB), the same for all images. Where 3 are wanted, grey
        images are repeated; where 1 is, RGB images that are grey are taken for such.
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
    if channels not in (1, 3):
        raise UserError(f"config.data.channels is {channels}; use 1 (grey) or 3 (RGB).")
    _require_fractions(validation_fraction, test_fraction)
    root = _require_root(data_root)
    found = _find_splits(root)
    every_pair = [pair for pairs in found.values() for pair in pairs]
    with remembered(cache_dir, root, spec, channels) as known:
        facts = check_pairs(every_pair, spec, channels, known)

    if converted := sum(f.converted for f in facts.values()):
        log.info("In %s, %s", root, conversion(converted, channels))
    _require_two_classes(root, spec, {c for f in facts.values() for c in f.classes})

    def counted(split: str) -> list[tuple[Pair, int]]:
        return [(pair, facts[pair.image].pages) for pair in found.get(split, ())]

    if "train" not in found:
        parts = _cut(counted("all"), validation_fraction, test_fraction)
    else:
        parts = {name: _every_page(counted(name)) for name in SPLITS}
        if "validation" not in found:
            cut = _cut(counted("train"), validation_fraction, 0.0)
            parts |= {"train": cut["train"], "validation": cut["validation"]}
    splits = {
        name: LazyRecords(
            functools.partial(_read_record, part, spec, channels), range(len(part))
        )
        for name, part in parts.items()
        if part
    }
    require_train(splits, root)
    return Dataset("folder", spec, channels, splits)


def _read_record(
    pages: Sequence[Page], spec: LabelSpec, channels: int, index: int
) -> Record:
    page = pages[index]
    image = with_channels(read_page(page.pair.image, page.index), channels)
    if image is None:
        raise UserError(
            f"{page.where(page.pair.image)} has other channels than when it was checked. "
            "Let nothing write to it, and start again."
        )
    record = {"image": image, "name": page.name}
    if page.count > 1:
        record["stack"] = str(page.pair.image)
    if (label := page.pair.label) is not None:
        raw = read_label(label, page.index)
        record["label"] = spec.to_ids(raw, page.where(label))
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
    """Pairs images and labels by their stems."""
    if labelled:
        return find_pairs(root / "images", root / "labels")
    return [Pair(path, None) for path in by_stem(root / "images").values()]


def _every_page(counted: Sequence[tuple[Pair, int]]) -> list[Page]:
    return [Page(pair, i, count) for pair, count in counted for i in range(count)]


def _cut(
    counted: Sequence[tuple[Pair, int]],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[Page]]:
    """Cuts single images by the hash of their stem, and stacks into blocks of pages."""
    single = [Page(pair, 0, 1) for pair, count in counted if count == 1]
    by_hash = sorted(single, key=lambda page: _hash(stem_of(page.pair.image)))
    stacks = [_every_page([entry]) for entry in counted if entry[1] > 1]
    parts: dict[str, list[Page]] = {name: [] for name in SPLITS}
    for pages in (by_hash, *stacks):
        for name, cut in block_cut(pages, validation_fraction, test_fraction).items():
            parts[name] += cut
    # Back to the order of the folder, which is the one that the user expects.
    place = {page: i for i, page in enumerate(_every_page(counted))}
    return {name: sorted(part, key=place.__getitem__) for name, part in parts.items()}


def _hash(stem: str) -> str:
    return hashlib.sha256(os.fsencode(stem)).hexdigest()
