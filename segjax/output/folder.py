"""The files that one command writes into a folder: planned as a whole, then written.

segjax replaces a file only if it wrote it (`segjax.output.manifest`) and nobody has
changed it since; all else belongs to the user.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from segjax.errors import UserError
from segjax.output.files import require_writable, whole_file
from segjax.output.manifest import Manifest, folded

_USUAL_LONGEST_NAME = 255


class Outputs:
    """The files of one command.

    Names are compared as disks do that ignore case and Unicode's forms.
    """

    def __init__(
        self,
        folder: Path,
        names: Iterable[tuple[str, object]],
        *,
        inputs: Iterable[Path] = (),
        flag: str | None = "--output",
        overwrite: bool = False,
    ):
        """Checks that all files can be written, and that nothing is lost by it.

        Args:
          folder: where to write.
          names: of each file its path within the folder, and what it is made of.
          inputs: files that the command reads; looked at where anything would be
            replaced.
          flag: which flag names the folder; None where the user cannot choose it.
          overwrite: whether files of the user are replaced.

        Raises:
          UserError: the folder cannot be written to, two files have the same name, or a
            file would be replaced that is an input or belongs to the user.
        """
        self.folder = folder
        self._flag, self._overwrite = flag, overwrite
        planned = list(names)
        self._unwritten = {name for name, _ in planned}
        self._require_folder()
        self._require_names_of_their_own(planned)
        self._require_short_names(planned)
        self._manifest = Manifest(folder)
        self._states = {name: _state(folder / name) for name, _ in planned}
        lying = self._lying_at(list(self._states))
        self._require_no_input(lying, inputs)
        if not self._manifest.is_ours:
            lying.append(self._manifest.path)
        folders = [path for path in lying if path.is_dir() and not path.is_symlink()]
        if folders:
            raise UserError(
                f"{folders[0]} is a folder, where a file would be written. Rename it"
                f"{self._or_another}."
            )
        foreign = [x for x in lying if not overwrite and not self._manifest.knows(x)]
        if foreign:
            raise self._belongs_to_user(foreign)

    def make_folder(self) -> None:
        """Makes the folder; nothing was written before.

        Raises:
          UserError: it cannot be made.
        """
        with self._as_user_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manifest.own()

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[io.BufferedRandom]:
        """Opens a file that appears in the folder when it is whole.

        Args:
          name: as it was planned.

        Yields:
          The file, to be written and read.

        Raises:
          UserError: it cannot be written, or something has taken its place meanwhile.
        """
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, lambda file: self._admit(name, file)) as file:
                yield file
            self._note_written(name)
        except OSError as error:
            # That of writing to an open file names none; others may be of what is read.
            named = error.filename
            if named is not None and self.folder not in Path(str(named)).parents:
                raise
            raise self._cannot_be_written(path, error) from error

    def place(self, name: str, made: Path) -> Path:
        """Moves a finished file of the same disk into the folder.

        Args:
          name: as it was planned.
          made: the file.

        Returns:
          Its new path.

        Raises:
          UserError: it cannot be moved, or something has taken its place meanwhile.
        """
        path = self.folder / name
        with self._as_user_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with made.open("rb") as file:
                self._admit(name, file)
            os.replace(made, path)
            self._note_written(name)
        return path

    def _admit(self, name: str, file: io.BufferedReader | io.BufferedRandom) -> None:
        """Looks whether a place is still as planned, and lists what is about to take it."""
        path = self.folder / name
        if not self._overwrite and _state(path) != self._states.get(name):
            self._manifest.read()
            if os.path.lexists(path) and not self._manifest.knows(path):
                raise self._belongs_to_user([path])
        self._manifest.add(name, file)

    def _note_written(self, name: str) -> None:
        self._states[name] = _state(self.folder / name)  # it may be written again
        self._unwritten.discard(name)
        if not self._unwritten:
            self._manifest.complete()

    def _require_folder(self) -> None:
        called = (
            str(self.folder) if self._flag is None else f"{self._flag}={self.folder}"
        )
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            what = "a file" if self.folder.exists() else "a link that leads nowhere"
            raise UserError(f"{called} is {what}. Give the name of a folder.")
        try:
            require_writable(self.folder)
        except OSError as error:
            raise UserError(
                f"{called} cannot be written to ({error.strerror or error}). Change its "
                f"permissions{self._or_another}."
            ) from error

    def _require_names_of_their_own(self, planned: list[tuple[str, object]]) -> None:
        """Refuses, for example, `a.png` with an overlay beside an `a_overlay.png`."""
        seen: dict[str, tuple[str, object]] = {}
        for name, source in planned:
            form = folded(name)
            if form not in seen:
                seen[form] = name, source
                continue
            other, first = seen[form]
            one = (
                other
                if other == name
                else f"{other} and {name}, one file on some disks"
            )
            raise UserError(
                f"{first} and {getattr(source, 'name', source)} would both give {one}. "
                "Rename one, or put them into different folders."
            )

    def _require_short_names(self, planned: list[tuple[str, object]]) -> None:
        """Refuses names that the disk would refuse, but only when they are written."""
        limit = _longest_name(self.folder)
        for name, source in planned:
            if max(len(os.fsencode(part)) for part in Path(name).parts) > limit:
                raise UserError(
                    f"{source} would give {name}, but names in {self.folder} have at "
                    f"most {limit} bytes. Rename it{self._or_another}."
                )

    def _lying_at(self, names: Iterable[str]) -> list[Path]:
        """Paths that lie where files are planned, under a name that some disk takes for theirs."""
        entries: dict[Path, dict[str, list[str]]] = {}
        found = []
        for name in names:
            path = self.folder / name
            if path.parent not in entries:
                entries[path.parent] = self._entries(path.parent)
            there = entries[path.parent].get(folded(path.name), ())
            found += [path.parent / other for other in there]
        return found

    def _entries(self, parent: Path) -> dict[str, list[str]]:
        """The names in a folder, by their folded form."""
        inner = [x for x in (parent, *parent.parents) if self.folder in x.parents]
        if link := next((folder for folder in inner if folder.is_symlink()), None):
            raise UserError(
                f"{link} is a link, through which nothing is written. Remove it"
                f"{self._or_another}."
            )
        by_form: dict[str, list[str]] = {}
        if parent.exists():
            with self._as_user_errors(parent):
                for name in os.listdir(parent):
                    by_form.setdefault(folded(name), []).append(name)
        return by_form

    def _require_no_input(self, lying: list[Path], inputs: Iterable[Path]) -> None:
        if not lying:
            return
        outputs = {key: path for path in lying for key in _identities(path)}
        for given in inputs:
            for key in _identities(given):
                if key in outputs:
                    raise UserError(
                        f"{outputs[key]} would be overwritten, but it is the input "
                        f"{given}. Give another {self._flag or 'folder'}."
                    )

    def _belongs_to_user(self, paths: list[Path]) -> UserError:
        others = len(paths) - 1
        more = f" and {others} other file{'s' * (others > 1)}" if others else ""
        them, have = ("them", "have") if others else ("it", "has")
        they = "they" if others else "it"
        if self._flag is None:
            remedy = f"Move or rename {them}"
        else:
            remedy = f"Give another {self._flag}, or --overwrite to replace {them}"
        return UserError(
            f"{paths[0]}{more} would be overwritten, but segjax did not write {them}, or "
            f"{they} {have} been changed since. {remedy}."
        )

    @property
    def _or_another(self) -> str:
        return "" if self._flag is None else f", or give another {self._flag}"

    @contextlib.contextmanager
    def _as_user_errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot_be_written(path, error) from error

    def _cannot_be_written(self, path: Path, error: OSError) -> UserError:
        return UserError(
            f"{path} cannot be written ({error.strerror or error}). Make room or "
            f"change the permissions{self._or_another}."
        )


def _state(path: Path) -> tuple[int, ...] | None:
    """Identity, size and times of a file, which change with it; None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    times = found.st_mtime_ns, found.st_ctime_ns  # the second cannot be set back
    return found.st_dev, found.st_ino, found.st_size, *times


def _longest_name(folder: Path) -> int:
    """How many bytes the name of a file in a folder, or where it will be made, may have."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        return os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not on Windows, nor on each disk
        return _USUAL_LONGEST_NAME


def _identities(path: Path) -> Iterator[object]:
    """Identities that two names of one file have in common, however they are written."""
    yield os.path.realpath(path)
    with contextlib.suppress(OSError):
        found = os.stat(path)
        yield found.st_dev, found.st_ino
