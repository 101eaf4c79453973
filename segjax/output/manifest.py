"""The manifest of what segjax wrote into a folder: a hidden list of names and digests.

After a header, each line is JSON with the name of a file and the SHA-256 of its content. A
line is appended before the file takes its place, and none is ever removed. So a process
can be killed at any moment, and several can write into one folder: the old content and
the new one are both known. A command whose files are all there appends a line that says
so: of what was listed before it, the last of each name is known, and earlier content that
somebody brings back belongs to the user.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import unicodedata
from pathlib import Path

from segjax.errors import UserError
from segjax.output.files import whole_file
from segjax.text_files import parse_json

NAME = ".segjax_outputs.jsonl"

_HEADER = b'{"written_by": "segjax"}\n'
"""The first line; each of the others is preceded by the end of a line, so that none is
spoilt by one before it that was cut short."""
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_APPEND |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def folded(name: str) -> str:
    """A form that two names share if some disk takes them for one.

    Example:
      >>> folded("Cafe" + chr(0x301) + ".PNG") == folded("caf" + chr(0xE9) + ".png")
      True
    """
    return unicodedata.normalize("NFC", name.casefold())


class Manifest:
    """The list of one folder, as it was when it was last read.

    Attributes:
      path: the file.
      is_ours: whether it is missing, or a list of ours; else something of the user lies
        in its place, and nothing in the folder is known.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self._folder = folder
        self.read()

    def read(self) -> None:
        """Reads it again, as other processes may have written; damaged lines count for nothing."""
        self._completed: dict[str, str] = {}
        self._since: dict[str, list[str]] = {}
        content = self._content()
        self.is_ours = content is not None
        for line in (content or b"").splitlines()[1:]:
            with contextlib.suppress(UserError, KeyError, TypeError, AttributeError):
                row = parse_json(line, self.path)
                if row.get("completed") is True:
                    self._settle()
                else:
                    name, digest = folded(row["file"]), row["sha256"]
                    self._since.setdefault(name, []).append(digest)

    def knows(self, path: Path) -> bool:
        """Whether a file in the folder is what segjax wrote there last.

        Where the command that did so was killed, it may be what lay there before.
        """
        digests = self._listed(folded(path.relative_to(self._folder).as_posix()))
        if not digests:
            return False
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() in digests
        except OSError:
            return False

    def lists(self, path: Path) -> bool:
        """Whether segjax has written a file of this name, whoever has changed it since."""
        return bool(self._listed(folded(path.relative_to(self._folder).as_posix())))

    def add(self, name: str, file: io.BufferedReader | io.BufferedRandom) -> None:
        """Lists the content of a file that is about to take its place.

        Raises:
          OSError: the list cannot be written.
        """
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self._listed(folded(name))[-1:] != [digest]:
            self._append({"file": name, "sha256": digest})
            self._since.setdefault(folded(name), []).append(digest)

    def complete(self) -> None:
        """Notes that all files of a command have taken their places.

        Raises:
          OSError: it cannot be written.
        """
        if self._since:
            self._append({"completed": True})
            self._settle()

    def own(self) -> None:
        """Puts a list there that is written through no link, neither soft nor hard.

        Raises:
          OSError: it cannot be written.
        """
        exists = os.path.lexists(self.path)
        if exists and not (self.is_ours and os.lstat(self.path).st_nlink == 1):
            content = self._content() or _HEADER
            with whole_file(self.path) as file:
                file.write(content)

    def _listed(self, name: str) -> list[str]:
        """The digests that a name may have, the one that was listed last at the end."""
        completed = [self._completed[name]] if name in self._completed else []
        return completed + self._since.get(name, [])

    def _settle(self) -> None:
        self._completed |= {name: found[-1] for name, found in self._since.items()}
        self._since = {}

    def _content(self) -> bytes | None:
        """Its content; None where something else lies in its place."""
        if not os.path.lexists(self.path):
            return b""
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.lstat(self.path).st_mode):
                content = self.path.read_bytes()
                if not content or content.startswith(_HEADER):
                    return content
        return None

    def _append(self, row: dict[str, str | bool]) -> None:
        """Adds a line in one write, as other processes do."""
        descriptor = os.open(self.path, _APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            start = b"\n" if size else _HEADER  # the last line may have been cut short
            line = start + json.dumps(row).encode()
            if os.write(descriptor, line) < len(line):
                full = errno.ENOSPC
                raise OSError(full, os.strerror(full), str(self.path))
        finally:
            os.close(descriptor)
