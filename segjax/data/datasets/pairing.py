"""Images and labels of a folder: which belong together, and into which splits they go.

Both may lie in folders below: images/plate1/a.tif belongs to labels/plate1/a.tif. The name of
a label may end in one of `MARKS`, as other programs write it; so named, or as outlines
(`OUTLINE_SUFFIXES`), it may also lie beside its image.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from segjax.data.files.images import page_name
from segjax.data.files.listing import (
    LABEL_SUFFIXES,
    OUTLINE_SUFFIXES,
    SUFFIXES,
    is_hidden,
    list_images,
    name_of,
)
from segjax.errors import UserError

log = logging.getLogger("segjax")

SPLITS = ("train", "validation", "test")

MARKS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_instances", "_RoiSet")
"""Ends of names that labels may have, and their images have not."""

_NAMES_SHOWN = 3
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Pair:
    """An image file and its label file, if it has one.

    Attributes:
      image: the image file.
      label: the label file.
      name: of the record, where the place of the file gives it: "plate1/a".
    """

    image: Path
    label: Path | None
    name: str = ""


@dataclass(frozen=True)
class Page:
    """One page of a pair of files."""

    pair: Pair
    index: int
    count: int

    @property
    def name(self) -> str:
        """The name of the pair, and the number of the page (from 0) where there are several."""
        name = self.pair.name
        return name if self.count == 1 else f"{name}/{self.index:03d}"

    def where(self, path: Path) -> str:
        """The name of a file's page in a message."""
        return page_name(path, self.index, self.count)


def find_pairs(images_dir: Path, labels_dir: Path) -> list[Pair]:
    """Pairs the files of two folders, and of those below them, by their names.

    Args:
      images_dir: folder of the images, and of the labels where `labels_dir` is missing.
      labels_dir: folder of the labels.

    Returns:
      The pairs, in the natural order of the images.

    Raises:
      UserError: a folder is missing, two files have one name, or a file has no partner.
    """
    if not labels_dir.exists() and (beside := pairs_beside(images_dir)):
        return beside
    images = by_name(images_dir)
    labels = by_name(labels_dir, labels=True)
    return _paired(images, list(labels.items()), images_dir, labels_dir)


def pairs_beside(folder: Path) -> list[Pair]:
    """Pairs the files of one folder: "a.tif" with "a_cp_masks.tif", or with "a.geojson".

    Args:
      folder: the folder; those below it are entered, too.

    Returns:
      The pairs, in the natural order of the images; none where it holds no label.

    Raises:
      UserError: as `find_pairs`.
    """
    if not folder.is_dir():
        return []
    files = list_images(folder, (*SUFFIXES, *OUTLINE_SUFFIXES), nested=True)
    is_outline = [path.suffix.lower() in OUTLINE_SUFFIXES for path in files]
    images = [
        path for path, outline in zip(files, is_outline, strict=True) if not outline
    ]
    outlines = [
        path for path, outline in zip(files, is_outline, strict=True) if outline
    ]
    names = _by_name(folder, images)
    labels = [
        (name, path) for name, path in names.items() if _image_of(name, names) != name
    ]
    marked = {name for name, _ in labels}
    partners = {name: path for name, path in names.items() if name not in marked}
    for name, path in _by_name(folder, outlines).items():
        if _image_of(name, partners) in partners:
            labels.append((name, path))
    return _paired(partners, labels, folder, folder) if labels else []


def without_labels(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Those files of a folder that no name marks as the label of another of them."""
    names = {path: name_of(path, folder) for path in paths}
    known = set(names.values())
    return [path for path, name in names.items() if _image_of(name, known) == name]


def by_name(folder: Path, *, labels: bool = False) -> dict[str, Path]:
    """Lists the image files of a folder, and of those below it, by their names.

    Args:
      folder: the folder.
      labels: whether the files are labels, among which outlines may be.

    Returns:
      Files in their natural order.

    Raises:
      UserError: the folder is missing, holds no image, or two of one name.
    """
    if not folder.is_dir():
        known = ("images", "labels", *SPLITS)
        others = folders_in(folder.parent) if folder.parent.is_dir() else []
        other = next((p.name for p in others if p.name not in known), None)
        suffixes = LABEL_SUFFIXES if labels else SUFFIXES
        remedy = (
            f"Make this folder with files ending in {', '.join(suffixes)}."
            if other is None
            else f"There is {other}/: rename it if that is what it holds."
        )
        raise UserError(f"{folder} is missing. {remedy}")
    listed = (*SUFFIXES, *OUTLINE_SUFFIXES) if labels else SUFFIXES
    files = list_images(folder, listed, nested=True, results=labels)
    return _by_name(folder, files)


def _by_name(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        name = name_of(path, folder)
        if name in files:
            raise UserError(
                f"{path.parent} has both {files[name].name} and {path.name}, which would "
                "be one name. Rename or remove one."
            )
        files[name] = path
    return files


def _image_of(label: str, images: Collection[str]) -> str:
    """The name of the image that a label belongs to; its own where there is none."""
    without = (label.removesuffix(mark) for mark in MARKS if label.endswith(mark))
    return next((name for name in without if name in images), label)


def _paired(
    images: Mapping[str, Path],
    labels: Sequence[tuple[str, Path]],
    images_dir: Path,
    labels_dir: Path,
) -> list[Pair]:
    """Gives every image its label, or says what is missing."""
    found: dict[str, Path] = {}
    for name, path in labels:
        image = name if name in images else _image_of(name, images)
        other = found.setdefault(image, path)
        if other is not path:
            raise UserError(
                f"{path.parent} has both {other.name} and {path.name}, which would be "
                f"labels of {images[image].name}. Remove one."
            )
    for kind, own, other_kind, partners, folder in (
        ("image", images, "label", found, labels_dir),
        ("label", found, "image", images, images_dir),
    ):
        alone = [name for name in own if name not in partners]
        if not alone:
            continue
        free = [path for name, path in partners.items() if name not in own]
        root = images_dir if kind == "image" else labels_dir
        empty = " (of zeros where there is nothing)" if kind == "image" else ""
        paths = [own[name] for name in alone]
        raise UserError(
            f"{folder} has no {other_kind} for {_some(paths, root, kind)}. "
            + (
                _other_name(paths[0], root, free, folder)
                or f"A {other_kind} has the {kind}'s name up to the ending: add it{empty} "
                f"or remove the {kind}."
            )
        )
    return [Pair(path, found[name], name) for name, path in images.items()]


def folders_in(root: Path) -> list[Path]:
    """Lists the folders in a folder by name, without those that a system has made."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p))


def require_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Checks the fractions that are cut off for validation and test.

    Raises:
      UserError: one of them, or both together, is below 0 or at least 1.
    """
    for key, fraction in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
        ("validation_fraction + test_fraction", validation_fraction + test_fraction),
    ):
        if not 0 <= fraction < 1:
            raise UserError(
                f"config.data.{key} is {fraction}; give a fraction of at least 0 and below 1."
            )


def block_cut(
    pages: Sequence[_Item], validation_fraction: float, test_fraction: float
) -> dict[str, Sequence[_Item]]:
    """Cuts fractions off the end of a sequence: first pages train, the last are for test.

    A fraction above 0 takes at least one page. Neighbouring sections of a stack look alike, so
    blocks of them are held out and not single ones.
    """
    validation = _quota(len(pages), validation_fraction)
    test = _quota(len(pages), test_fraction)
    train = max(0, len(pages) - validation - test)
    return {
        "train": pages[:train],
        "validation": pages[train : train + validation],
        "test": pages[train + validation :],
    }


def labelled_pairs(found: Mapping[str, Sequence[Pair]], root: Path) -> list[Pair]:
    """Puts the pairs of several splits together that have labels; the log names the others.

    Args:
      found: the pairs of each split.
      root: their folder, for messages.

    Returns:
      The pairs; where there are several splits, their names begin with that of the split.

    Raises:
      UserError: if there are none.
    """
    every = [
        dataclasses.replace(
            pair, name=f"{split}/{pair.name}" if len(found) > 1 else pair.name
        )
        for split, pairs in found.items()
        for pair in pairs
    ]
    labelled = [pair for pair in every if pair.label is not None]
    if not labelled:
        raise UserError(
            f"{root} has images without labels: they can be predicted, not measured."
        )
    if without := len(every) - len(labelled):
        log.warning(
            "%d of the %d images in %s have no labels, and are not measured.",
            without,
            len(every),
            root,
        )
    return labelled


def require_train(
    splits: Mapping[str, object], root: Path, index: Path | None = None
) -> None:
    """Checks that there is something to train on.

    Args:
      splits: those that are not empty, by name.
      root: the folder of the images, for the message.
      index: the file that names the split of each, where there is one.

    Raises:
      UserError: if there is not.
    """
    if "train" in splits:
        return
    if index is not None:
        raise UserError(f"{index} gives no image the split train. Give it to some.")
    raise UserError(
        f"{root} has too few images: none is left to train on once validation and test "
        "have theirs. Add images, or lower config.data.validation_fraction or "
        "config.data.test_fraction: 0 holds none out."
    )


def only_pages(
    splits: Mapping[str, Sequence[Page]], chosen: Sequence[int]
) -> dict[str, list[Page]]:
    """Leaves out the pages of files that are not chosen.

    Args:
      splits: the pages of each split.
      chosen: places of those that are used of each file, from 0; empty for all.

    Returns:
      The pages of each split that are left.

    Raises:
      UserError: a file has no such page.
    """
    for page in itertools.chain.from_iterable(splits.values() if chosen else ()):
        if max(chosen) >= page.count:
            raise UserError(
                f"Page {max(chosen) + 1} is asked for, but {page.pair.image} has "
                f"{page.count}. Give others."
            )
    return {
        name: [page for page in pages if not chosen or page.index in chosen]
        for name, pages in splits.items()
    }


def _quota(count: int, fraction: float) -> int:
    return max(1, round(count * fraction)) if fraction > 0 and count > 0 else 0


def _some(paths: Sequence[Path], root: Path, noun: str) -> str:
    names = ", ".join(str(path.relative_to(root)) for path in paths[:_NAMES_SHOWN])
    more = ", ..." if len(paths) > _NAMES_SHOWN else ""
    return f"{len(paths)} {noun}{'' if len(paths) == 1 else 's'} ({names}{more})"


def _other_name(path: Path, root: Path, free: Sequence[Path], folder: Path) -> str:
    """Says under which other name the partner of a file seems to lie in a folder."""
    name = name_of(path, root)
    for other in free:
        found = name_of(other, folder)
        right = f"{name}{other.suffix}"
        if found.casefold() == name.casefold():
            return (
                f"{folder.name}/ has {other.name}, whose capital and small letters differ: "
                f"rename it to {right}, and the others likewise."
            )
        longer, shorter = (found, name) if len(found) > len(name) else (name, found)
        more = longer.removeprefix(shorter)
        if more != longer and not more[0].isalnum():
            return (
                f"{folder.name}/ has {other.name}, whose name differs by {more!r}: rename "
                f"it to {right}, and the others likewise."
            )
    return ""
