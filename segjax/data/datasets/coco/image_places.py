"""Where the images of annotation files lie: names as tools of all systems write them."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from segjax.data.files.decoders import absent
from segjax.data.files.images import SUFFIXES
from segjax.errors import UserError, shown

_NAMED = 5
"""Of wrong files in an error."""

_ABSOLUTE = re.compile(r"[A-Za-z]:|/")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class ImageFolder:
    """A folder of images, which is looked into once.

    A name that an annotation file gives an image is a path within it. Beyond doubt are
    also backslashes between folders, the folder itself in front (by its name or its whole
    path), and the other form of composed letters (NFC, NFD), where such a file is there.
    """

    def __init__(self, path: Path):
        """Takes a folder.

        Raises:
          UserError: if it does not exist or cannot be read.
        """
        if not path.is_dir():
            raise UserError(
                f"The folder of images {path} does not exist. Check --data_root and "
                "config.data."
            )
        self.path = path
        self._roots = [f"{p.as_posix()}/" for p in (path.absolute(), path.resolve())]
        self._files: dict[str, frozenset[str]] = {}
        try:
            self._files[""] = _files(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}). Change its permissions."
            ) from error

    def place(self, name: str) -> str | None:
        """The path within the folder of the image that a name means, None without one."""
        if name in self._files[""]:
            return name
        return next((path for path in self._meant(name) if self._holds(path)), None)

    def places(self, names: Sequence[str], where: Path) -> list[str]:
        """Finds images.

        Args:
          names: as an annotation file gives them.
          where: that file, for messages.

        Returns:
          Their paths within the folder.

        Raises:
          UserError: if one is not there or lies elsewhere, or two are one file.
        """
        found = [self.place(name) for name in names]
        missing = sorted(
            n for n, path in zip(names, found, strict=True) if path is None
        )
        if missing:
            for meant in self._meant(missing[0]):
                if os.path.islink(self.path / meant):
                    raise absent(self.path / meant)
            raise UserError(
                f"{self.path} lacks {len(missing)} of the {len(names)} images that are "
                f"listed: {some(missing)}. {self._advice(missing[0])}"
            )
        seen: dict[str, str] = {}
        for name, path in zip(names, found, strict=True):
            assert path is not None
            if path in seen:
                raise UserError(
                    f"{where} lists the image {name} twice. Give it one entry, with all "
                    "of its annotations."
                )
            seen[path] = name
        return list(seen)

    def unlisted(self, places: set[str]) -> list[str]:
        """Images beside those of these places, which are not among them."""
        folders = {place.rpartition("/")[0] for place in places} or {""}
        return sorted(
            path
            for folder in folders
            for name in self._names(folder)
            if not name.startswith(".")
            and name.lower().endswith(SUFFIXES)
            and (path := posixpath.join(folder, name)) not in places
        )

    def _meant(self, name: str) -> Iterator[str]:
        """Paths within the folder that a name may mean, the likeliest first."""
        own = self.path.absolute().parts
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            path = posixpath.normpath(written)
            for root in self._roots:
                if path.startswith(root):
                    yield path.removeprefix(root)
            parts = path.split("/")
            if _ABSOLUTE.match(path) or parts[0] == "..":
                continue
            yield path
            yield unicodedata.normalize("NFC", path)
            yield unicodedata.normalize("NFD", path)
            for count in range(1, len(parts)):
                if tuple(parts[:count]) == own[-count:]:
                    yield "/".join(parts[count:])

    def _holds(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self._names(folder)

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._files:
            try:
                self._files[folder] = _files(self.path / folder)
            except (OSError, ValueError):  # a name that cannot be one of a folder
                self._files[folder] = frozenset()
        return self._files[folder]

    def _advice(self, name: str) -> str:
        """Advice about an image that is not there."""
        path = posixpath.normpath(name.replace("\\", "/"))
        if _ADDRESS.match(name):
            return (
                f"{shown(name)} is an address: put the images there, and write their file "
                "names instead."
            )
        if _ABSOLUTE.match(path):
            return (
                f"{shown(name)} is a path outside of this folder: put the images there, "
                "and write paths within it."
            )
        if path.split("/")[0] == "..":
            return (
                f"{shown(name)} leads out of this folder: name a folder that holds all "
                "images, and write paths within it."
            )
        folder, _, last = path.rpartition("/")
        alike = [x for x in self._names(folder) if x.lower() == last.lower()]
        if alike:
            return f"There is {alike[0]}: write the name as the file has it."
        return "Put them there."


def _files(folder: Path) -> frozenset[str]:
    """Names of the files in a folder; links to files are files."""
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries if entry.is_file())


def some(names: Sequence[str]) -> str:
    """The first of many names, for a sentence."""
    more = ", ..." if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
