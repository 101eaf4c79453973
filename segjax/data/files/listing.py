"""Which files of a folder are images."""

from __future__ import annotations

import collections
import re
from pathlib import Path

from segjax.data.files.decoders import absent
from segjax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
"""Endings of the files that are read, in small letters."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
"""Those among them that labels may have: JPEG changes values."""

_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
"""Entries that Windows and macOS put into folders by themselves, besides hidden files."""

_SHOWN = 5


def list_images(path: str | Path) -> list[Path]:
    """Lists the image files of a folder, numbers in names in their natural order.

    Args:
      path: a folder (its sub-folders are not entered), or one file.

    Returns:
      Paths, "slice2.png" before "slice10.png". Hidden files and files of other
      endings than `SUFFIXES` are left out. A file is returned as it is.

    Raises:
      UserError: the path does not exist, may not be read, holds no image, or a link that
        leads nowhere.
    """
    path = Path(path)
    try:
        if path.is_file():
            return [path]
        if not path.exists():
            raise absent(path)
        entries = _entries(path)
        named = [p for p in entries if p.suffix.lower() in SUFFIXES]
        images = [p for p in named if p.is_file()]
        broken = next((p for p in named if not p.exists()), None)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Change its permissions."
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
            f"{', '.join(SUFFIXES)} there."
        )
    return sorted(images, key=_natural_order)


def other_files(path: str | Path) -> str:
    """Says what `list_images` does not list of a folder, apart from hidden files.

    Args:
      path: that was listed.

    Returns:
      Such as "2 files (.pdf, .txt), 1 folder"; nothing where all of it is listed.
    """
    path = Path(path)
    if path.is_file():
        return ""
    others = [
        p for p in _entries(path) if not (p.suffix.lower() in SUFFIXES and p.is_file())
    ]
    count = collections.Counter(p.is_dir() for p in others)
    endings = sorted({p.suffix.lower() or p.name for p in others if not p.is_dir()})
    parts = []
    if files := count[False]:
        more = ", ..." if len(endings) > _SHOWN else ""
        shown = f"{', '.join(endings[:_SHOWN])}{more}"
        parts.append(f"{files} file{'s' if files > 1 else ''} ({shown})")
    if folders := count[True]:
        parts.append(f"{folders} folder{'s' if folders > 1 else ''}")
    return ", ".join(parts)


def is_hidden(path: Path) -> bool:
    """Whether a system, not the user, put a file or folder there."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def _entries(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if not is_hidden(entry)]


def _natural_order(path: Path) -> tuple[list[int | str], str]:
    # Splitting at digits puts text at even places and numbers at odd ones, so that
    # entries of two keys always compare with their own kind.
    parts = re.split(r"(\d+)", path.name.lower())
    key: list[int | str] = [int(p) if i % 2 else p for i, p in enumerate(parts)]
    return key, path.name
