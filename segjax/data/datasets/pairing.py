"""Images and labels of a folder: which belong together, and into which splits they go."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segjax.data.files.images import count_pages, page_name
from segjax.data.files.listing import LABEL_SUFFIXES, SUFFIXES, is_hidden, list_images
from segjax.errors import UserError

SPLITS = ("train", "validation", "test")
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Pair:
    """An image file and its label file, if it has one."""

    image: Path
    label: Path | None


@dataclass(frozen=True)
class Page:
    """One page of a pair of files."""

    pair: Pair
    index: int
    count: int

    @property
    def name(self) -> str:
        """The stem, and the number of the page (from 0) where there are several."""
        stem = stem_of(self.pair.image)
        return stem if self.count == 1 else f"{stem}/{self.index:03d}"

    def where(self, path: Path) -> str:
        """The name of a file's page in a message."""
        return page_name(path, self.index, self.count)


def stem_of(path: Path) -> str:
    """Returns the name up to the ending, letters and their accents as one (NFC).

    macOS parts them, Windows and Linux do not; a folder that was copied can hold both.
    """
    return unicodedata.normalize("NFC", path.stem)


def _key(path: Path) -> str:
    """Returns what pairs share: of "a.ome.tif" it is "a", as OME's ending has two parts."""
    stem = stem_of(path)
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def find_pairs(images_dir: Path, labels_dir: Path) -> list[Pair]:
    """Pairs the files of two folders by their stems.

    Args:
      images_dir: folder of the images.
      labels_dir: folder of the labels.

    Returns:
      The pairs, in the natural order of the images.

    Raises:
      UserError: a folder is missing, two files have one stem, or a file has no partner.
    """
    images, labels = by_stem(images_dir), by_stem(labels_dir, LABEL_SUFFIXES)
    for kind, own, other, partner in (
        ("image", images, labels, "label"),
        ("label", labels, images, "image"),
    ):
        alone = [path for stem, path in own.items() if stem not in other]
        if not alone:
            continue
        free = [path for stem, path in other.items() if stem not in own]
        folder = labels_dir if kind == "image" else images_dir
        empty = " (of zeros where there is nothing)" if kind == "image" else ""
        raise UserError(
            f"{folder} has no {partner} for {_some(alone, kind)}. "
            + (
                _other_name(alone[0], free, folder)
                or f"A {partner} has the {kind}'s name up to the ending: add it{empty} or "
                f"remove the {kind}."
            )
        )
    return [Pair(path, labels[stem]) for stem, path in images.items()]


def count_pages_of(pair: Pair) -> int:
    """Counts the pages of an image, which are those of its label, where it has one.

    Raises:
      UserError: the two differ, or a file is damaged.
    """
    count = count_pages(pair.image)
    if pair.label is not None and (of_label := count_pages(pair.label)) != count:
        raise UserError(
            f"{pair.label} has {_pages(of_label)}, but {pair.image} has {_pages(count)}. "
            "Give every page its label."
        )
    return count


def by_stem(path: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Lists the image files of a folder by their names without ending.

    Args:
      path: the folder.
      suffixes: endings to advise where there is none.

    Returns:
      Files in their natural order.

    Raises:
      UserError: the folder is missing, holds no image, or two of one stem.
    """
    if not path.is_dir():
        known = ("images", "labels", *SPLITS)
        others = folders_in(path.parent) if path.parent.is_dir() else []
        other = next((p.name for p in others if p.name not in known), None)
        remedy = (
            f"Make this folder with files ending in {', '.join(suffixes)}."
            if other is None
            else f"There is {other}/: rename it if that is what it holds."
        )
        raise UserError(f"{path} is missing. {remedy}")
    files: dict[str, Path] = {}
    for file in list_images(path):
        stem = _key(file)
        if stem in files:
            raise UserError(
                f"{path} has both {files[stem].name} and {file.name}, which would be one "
                "name. Rename or remove one."
            )
        files[stem] = file
    return files


def folders_in(root: Path) -> list[Path]:
    """Lists the folders in a folder by name, without those that a system has made."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p))


def block_cut(
    pages: Sequence[Page], validation_fraction: float, test_fraction: float
) -> dict[str, Sequence[Page]]:
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


def _quota(count: int, fraction: float) -> int:
    return max(1, round(count * fraction)) if fraction > 0 and count > 0 else 0


def _pages(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"


def _some(paths: Sequence[Path], noun: str) -> str:
    names = ", ".join(path.name for path in paths[:_NAMES_SHOWN])
    more = ", ..." if len(paths) > _NAMES_SHOWN else ""
    return f"{len(paths)} {noun}{'' if len(paths) == 1 else 's'} ({names}{more})"


def _other_name(path: Path, free: Sequence[Path], folder: Path) -> str:
    """Says under which other name the partner of a file seems to lie in a folder."""
    stem = _key(path)
    for other in free:
        found = _key(other)
        right = f"{stem}{other.suffix}"
        if found.casefold() == stem.casefold():
            return (
                f"{folder.name}/ has {other.name}, whose capital and small letters differ: "
                f"rename it to {right}, and the others likewise."
            )
        longer, shorter = (found, stem) if len(found) > len(stem) else (stem, found)
        more = longer.removeprefix(shorter)
        if more != longer and not more[0].isalnum():
            return (
                f"{folder.name}/ has {other.name}, whose name differs by {more!r}: rename "
                f"it to {right}, and the others likewise."
            )
    return ""
