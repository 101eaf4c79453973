"""Which files of a folder are images."""

from __future__ import annotations

import collections
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from segjax.data.files.decoders import absent
from segjax.data.files.zarr import METADATA, is_zarr
from segjax.data.files.zarr import SUFFIX as ZARR
from segjax.errors import UserError
from segjax.output import manifest

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".zarr")
"""Endings of the files that are read, in small letters."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".zarr")
"""Those among them that labels may have: JPEG changes values."""

OUTLINE_SUFFIXES = (".roi", ".zip", ".geojson")
"""Endings of labels that are outlines: ROIs of ImageJ, one or zipped, and GeoJSON."""

_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
"""Entries that Windows and macOS put into folders by themselves, besides hidden files."""

_OME = ".ome"
_SHOWN = 5


def list_images(
    path: str | Path,
    suffixes: Sequence[str] = SUFFIXES,
    *,
    nested: bool = False,
    results: bool = False,
) -> list[Path]:
    """Lists the image files of a folder, numbers in names in their natural order.

    Args:
      path: a folder, or one file.
      suffixes: endings of the files, in small letters.
      nested: whether sub-folders are entered, such as those of plates. A folder that links
        lead to more than once is entered once.
      results: whether files in sub-folders are listed, too, that segjax has written there,
        as labels can be.

    Returns:
      Paths, "slice2.png" before "slice10.png". Hidden files and files of other
      endings are left out. A file is returned as it is.

    Raises:
      UserError: the path does not exist, may not be read, holds no image, or a link that
        leads nowhere.
    """
    path = Path(path)
    try:
        if path.is_file() or is_zarr(path):
            return [path]
        if not path.exists():
            raise absent(path)
        folders = [path, *(below := list(_folders_below(path)) if nested else [])]
        entries = [entry for folder in folders for entry in _entries(folder)]
        named = [p for p in entries if p.suffix.lower() in suffixes]
        named = named if results else _without_results(named, below)
        images = [p for p in named if p.is_file() != _is_folder_of_zarr(p)]
        broken = next((p for p in named if not p.exists()), None)
    except OSError as error:
        raise UserError(
            f"{error.filename or path} cannot be read ({error.strerror}). Change its "
            "permissions."
        ) from error
    if broken is not None:
        raise absent(broken)
    if not images:
        found = sorted(
            {f"{p.name}/" if p.is_dir() else p.suffix or p.name for p in entries}
        )
        contents = f"holds no image, only {', '.join(found[:_SHOWN])}"
        raise UserError(
            f"{path} {contents if found else 'is empty'}. Put files ending in "
            f"{', '.join(suffixes)} there."
        )
    return sorted(images, key=lambda image: _natural_order(image.relative_to(path)))


def name_of(path: Path, root: Path) -> str:
    """The name of a file within a folder, without its ending: "plate1/a" of "plate1/a.tif".

    Letters and their accents are one (NFC): macOS parts them, Windows and Linux do not, and a
    folder that was copied can hold both. OME's endings, as in "a.ome.tif", have two parts.

    Args:
      path: the file.
      root: a folder above it, or the file itself.

    Returns:
      The name, with slashes.

    Example:
      >>> name_of(Path("cells/plate1/a.ome.tif"), Path("cells"))
      'plate1/a'
    """
    stem = unicodedata.normalize("NFC", path.stem)
    stem = stem[: -len(_OME)] if has_ome_ending(path) else stem
    folder = "" if path == root else path.parent.relative_to(root).as_posix()
    folder = unicodedata.normalize("NFC", folder)
    return stem if folder in ("", ".") else f"{folder}/{stem}"


def has_ome_ending(path: Path) -> bool:
    """Whether the ending of a file has the two parts of OME's.

    Example:
      >>> has_ome_ending(Path("a.ome.tif")), has_ome_ending(Path("a.tif"))
      (True, False)
    """
    return path.stem.lower().endswith(_OME) and len(path.stem) > len(_OME)


def other_files(path: str | Path, listed: Collection[Path]) -> str:
    """Says what was not listed of a folder and those below, apart from hidden files.

    Args:
      path: the folder, or one file.
      listed: what `list_images` gave, nested.

    Returns:
      Such as "2 files (.pdf, .txt), 1 folder"; nothing where all of it is listed.
    """
    path = Path(path)
    if path.is_file() or is_zarr(path):
        return ""
    known = {*listed, *(below := list(_folders_below(path)))}
    entries = (entry for folder in (path, *below) for entry in _entries(folder))
    others = [entry for entry in entries if entry not in known]
    count = collections.Counter(p.is_dir() for p in others)
    endings = sorted({p.suffix.lower() or p.name for p in others if not p.is_dir()})
    parts = []
    if files := count[False]:
        more = ", ..." if len(endings) > _SHOWN else ""
        shown = f"{', '.join(endings[:_SHOWN])}{more}"
        parts.append(f"{files} file{'s' if files > 1 else ''} ({shown})")
    if folders_left := count[True]:
        parts.append(f"{folders_left} folder{'s' if folders_left > 1 else ''}")
    return ", ".join(parts)


def is_hidden(path: Path) -> bool:
    """Whether a system, not the user, put a file or folder there."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def _folders_below(root: Path) -> Iterator[Path]:
    """Folders within a folder, each once, whatever leads to it."""
    entered = {os.path.realpath(root)}
    pending = [root]
    while pending:
        for entry in sorted(_entries(pending.pop())):
            if not entry.is_dir() or _is_folder_of_zarr(entry):
                continue
            if (real := os.path.realpath(entry)) in entered:
                continue
            entered.add(real)
            pending.append(entry)
            yield entry


def _without_results(paths: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    """Those of some files and Zarrs that segjax did not write into one of some folders."""
    lists = {
        folder: manifest.Manifest(folder)
        for folder in folders
        if os.path.lexists(folder / manifest.NAME)
    }
    return [
        path
        for path in paths
        if not any(
            lists[folder].lists(file)
            for folder in path.parents
            if folder in lists
            for file in (path, *(path / name for name in METADATA))
        )
    ]


def _is_folder_of_zarr(path: Path) -> bool:
    return path.suffix.lower() == ZARR and path.is_dir()


def _entries(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if not is_hidden(entry)]


def _natural_order(path: Path) -> tuple[list[list[int | str]], str]:
    # Splitting at digits puts text at even places and numbers at odd ones, so that
    # entries of two keys always compare with their own kind.
    key: list[list[int | str]] = []
    for name in path.parts:
        parts = re.split(r"(\d+)", name.lower())
        key.append([int(p) if i % 2 else p for i, p in enumerate(parts)])
    return key, str(path)
