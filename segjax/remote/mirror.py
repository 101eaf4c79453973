"""A folder of this machine that is a copy of a remote one, and is copied back."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segjax.errors import UserError
from segjax.remote.lease import RENEWED, Lease, TakenError
from segjax.remote.store import Entry, Store

log = logging.getLogger("segjax")

SEAL = "about/metadata"
"""What the name of the object ends with that completes a checkpoint: it is written last and
removed first, so that one without it is not whole, and is left alone by whoever reads."""

_TRANSFERS = 8
"""Objects that travel at a time."""
_SMALL = 1 << 26
"""Bytes that are written in one request."""
_State = tuple[int, int]
_OF_CHECKPOINT = re.compile(r"((?:.*/)?checkpoints/\d+/)")
_HIDDEN = (".lock", ".partial-")
_UNFINISHED = "orbax-checkpoint-tmp"


class Mirror:
    """A remote folder and its copy."""

    def __init__(self, store: Store, folder: Path):
        """Copies nothing yet.

        Args:
          store: the remote folder.
          folder: of this machine; it exists.
        """
        self._store, self.folder = store, folder
        self._versions: dict[str, Entry] = {}
        self._states: dict[str, _State] = {}

    def fetch(self, wanted: Callable[[str], bool] = lambda name: True) -> int:
        """Copies objects to files; checkpoints that are not whole are left out.

        Args:
          wanted: of which names.

        Returns:
          How many there are.

        Raises:
          UserError: the store does not let it, or a name does not fit below the folder.
        """
        entries = {
            name: entry
            for name, entry in self._store.entries().items()
            if not _is_hidden(name)
        }
        sealed = {name.removesuffix(SEAL) for name in entries if name.endswith(SEAL)}
        chosen = {
            name: entry
            for name, entry in entries.items()
            if _is_whole(name, sealed) and wanted(name)
        }
        _check_names(chosen, self._store.address)
        self._versions = entries
        total = sum(entry.size for entry in chosen.values())
        if total > 1 << 20:
            log.info(
                "Copying %d files (%d MiB) from %s.",
                len(chosen),
                total >> 20,
                self._store.address,
            )
        self._each(
            chosen,
            lambda name: self._store.fetch(
                name, self.folder / (name or self._store.name)
            ),
        )
        self._states = {name: state for name, state in self._files() if name in chosen}
        return len(chosen)

    def push(self) -> None:
        """Copies files that are new or have changed, then removes objects whose files are gone.

        Raises:
          UserError: the store does not let it.
        """
        files = dict(self._files())
        for names in _seals_last(self._changed(files)):
            self._each(names, lambda name: self._send(name, files[name]))
        # Some were never fetched, as they are of a checkpoint whose writer was killed. Of one
        # that is being removed here all goes at once, so that its seal goes first.
        gone = [name for name in self._versions if name not in files]
        ended = {_checkpoint_of(name) for name in gone if name in self._states} - {""}
        gone += [
            name
            for name in self._versions
            if name in files and _checkpoint_of(name) in ended
        ]
        for names in reversed(_seals_last(gone)):
            self._each(names, self._store.remove)
        for name in gone:
            self._versions.pop(name, None)
            self._states.pop(name, None)

    def push_carefully(self, first: Collection[str] = ()) -> None:
        """Copies files that are new or have changed, but over nothing that others have written.

        A new object is made on the store's condition that there is none; of one that is
        replaced the version is compared just before. Nothing is removed.

        Args:
          first: names of files that are copied before all others.

        Raises:
          UserError: the store does not let it, or an object was written by others.
        """
        files = dict(self._files())
        changed = self._changed(files)
        for names in (
            [name for name in changed if name in first],
            [name for name in changed if name not in first],
        ):
            self._each(names, lambda name: self._send_carefully(name, files[name]))

    def _changed(self, files: Mapping[str, _State]) -> list[str]:
        return [
            name for name, state in files.items() if self._states.get(name) != state
        ]

    def _send(self, name: str, state: _State) -> None:
        path = self.folder / name
        try:
            self._store.send(path, name)
        except UserError:
            if path.exists():
                raise
            return  # a checkpoint that is not kept any more
        self._note(name, state)

    def _send_carefully(self, name: str, state: _State) -> None:
        known, path = self._versions.get(name), self.folder / name
        if known is None:
            small = (
                state[0] <= _SMALL
            )  # a larger one begins with an object that is empty
            if not self._store.create(name, path.read_bytes() if small else b""):
                raise self._changed_by_others(name)
            if small:
                self._note(name, state)
                return
        elif self._store.entry(name) != known:
            raise self._changed_by_others(name)
        self._send(name, state)

    def _note(self, name: str, state: _State) -> None:
        self._states[name] = state
        entry = self._store.entry(name)
        if entry is not None:
            self._versions[name] = entry

    def _changed_by_others(self, name: str) -> UserError:
        return UserError(
            f"{self._store.address}/{name} was written by others meanwhile, and is left as it "
            "is. Give another folder."
        )

    def _files(self) -> Iterator[tuple[str, _State]]:
        """The files of the copy that belong to the folder, with size and time."""
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = Path(place, name)
                key = path.relative_to(self.folder).as_posix()
                if _is_hidden(key):
                    continue
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    found = path.stat()
                    yield key, (found.st_size, found.st_mtime_ns)

    def _each(self, names: Collection[str], action: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            for _ in pool.map(action, names):
                pass


def _seals_last(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that complete no checkpoint, and those that do."""
    names = list(names)
    seals = [name for name in names if name.endswith(SEAL)]
    return [name for name in names if name not in seals], seals


def _is_whole(name: str, sealed: Collection[str]) -> bool:
    """Whether an object is of no checkpoint, or of one that has its seal."""
    checkpoint = _checkpoint_of(name)
    return not checkpoint or checkpoint in sealed


def _checkpoint_of(name: str) -> str:
    """The folder of the checkpoint that an object is of, with a slash; "" if of none."""
    found = _OF_CHECKPOINT.match(name)
    return found[1] if found else ""


def _is_hidden(name: str) -> bool:
    """Whether a name is of locks, of what is being written, or of a save that is under way."""
    parts = name.split("/")
    return any(part.startswith(_HIDDEN) or _UNFINISHED in part for part in parts)


def _check_names(names: Collection[str], address: str) -> None:
    """Refuses names that lead out of a folder, or are of a file and of a folder."""
    folders = {name[:i] for name in names for i, c in enumerate(name) if c == "/"}
    for name in names:
        parts = name.split("/")
        leads_out = ".." in parts or "" in parts[:-1] or "\\" in name or "\0" in name
        if leads_out or name in folders:
            raise UserError(
                f"{address} has an object called {name!r}, which cannot be copied to a file "
                "of that name. Rename it."
            )


class Pusher:
    """Copies a run to its remote folder while it trains, in a thread of its own."""

    def __init__(self, mirror: Mirror, lease: Lease):
        self._mirror, self._lease = mirror, lease
        self._ends = threading.Event()
        self._lost: TakenError | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copies what is left.

        Raises:
          UserError: it cannot be copied, or another process has taken over the folder.
        """
        self._ends.set()
        self._thread.join()
        if self._lost is not None:
            raise self._lost
        self._lease.check()
        self._mirror.push()

    def _work(self) -> None:
        while not self._ends.wait(RENEWED / 2):
            try:
                self._lease.renew()
                self._lease.check()
                self._mirror.push()
            except TakenError as error:
                self._lost = error
                os.kill(os.getpid(), signal.SIGTERM)  # the run saves here, and ends
                return
            except UserError as error:
                log.warning("%s It is tried again.", error)
