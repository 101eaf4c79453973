"""A folder of a store of objects: its objects are listed, read, written and removed."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from segjax.errors import UserError
from segjax.remote.address import STORES, require_store, scheme_of

T = TypeVar("T")

PATIENCE = 25.0
"""Seconds that a store has for its first answer."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"max_attempts": 3},
        }
    },
}
_VERSIONS = ("generation", "ETag", "etag", "md5Hash")
"""Keys of what stores say of an object, one of which changes with its content."""


@dataclass(frozen=True)
class Entry:
    """An object.

    Attributes:
      size: bytes.
      version: changes with the content.
    """

    size: int
    version: str


class Store:
    """The objects below an address; names are relative to it.

    Raises:
      UserError: from each method, if the store does not let it.
    """

    def __init__(self, address: str, what: str):
        """Opens it, and asks it for an answer.

        Args:
          address: such as "s3://bucket/runs/a".
          what: the flag that names it, for messages.

        Raises:
          UserError: it is not an address of a store that can be used, its package is
            missing, or it does not answer within `PATIENCE`.
        """
        require_store(address, what)
        self.address, self._what = address.rstrip("/"), what
        scheme = scheme_of(address)
        try:
            self._files, self._root = _in_time(lambda: _opened(scheme, self.address))
        except ImportError as error:
            raise UserError(
                f"{what}={address} needs the Python package {STORES[scheme]}, which is not "
                f"installed: pip install segjax[{scheme}]."
            ) from error
        except Exception as error:  # each store has errors of its own
            raise self._failed("reached", error) from error

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self._root.rpartition("/")[2]

    @property
    def is_object(self) -> bool:
        """Whether the address itself is that of an object."""
        with self._as_user_errors("read"):
            return bool(self._files.isfile(self._root))

    def entries(self, folder: str = "") -> dict[str, Entry]:
        """All objects, or those of a folder; that at the address itself is called ""."""
        found: dict[str, Any] = {}
        with self._as_user_errors("listed"), contextlib.suppress(FileNotFoundError):
            found = self._files.find(self._path(folder), detail=True)
        entries = {
            path.removeprefix(self._path(folder)).removeprefix("/"): _entry(info)
            for path, info in found.items()
            if info.get("type", "file") == "file" and not path.endswith("/")
        }
        if len(entries) > 1:
            entries.pop("", None)  # some programs make an object of a folder's name
        return entries

    def entry(self, name: str) -> Entry | None:
        """An object; None where there is none."""
        with self._as_user_errors("read"), contextlib.suppress(FileNotFoundError):
            return _entry(self._files.info(self._path(name)))
        return None

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""
        with self._as_user_errors("read"), contextlib.suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._path(name)))
        return None

    def fetch(self, name: str, path: Path) -> bool:
        """Copies an object to a file; returns whether it was there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._as_user_errors("read"), contextlib.suppress(FileNotFoundError):
            self._files.get_file(self._path(name), str(path))
            return True
        return False

    def send(self, path: Path, name: str) -> None:
        """Copies a file to an object, which is there as a whole or as before."""
        with self._as_user_errors("written"):
            self._files.put_file(str(path), self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, as a whole."""
        with self._as_user_errors("written"):
            self._files.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object where there is none; of several that try, the store lets one.

        Args:
          name: of the object.
          content: of the object.

        Returns:
          Whether this one was let.
        """
        with self._as_user_errors("written"):
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        return True

    def require_writable(self) -> None:
        """Checks that objects can be made and removed."""
        probe = f".probe-{secrets.token_hex(8)}"
        self.create(probe, b"")
        self.remove(probe)

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with self._as_user_errors("removed"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _as_user_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (UserError, MemoryError):
            raise
        except Exception as error:  # each store has errors of its own
            raise self._failed(done, error) from error

    def _failed(self, done: str, error: Exception) -> UserError:
        lines = str(error).strip().splitlines()
        reason = lines[0][:200].rstrip(" .") if lines else type(error).__name__
        return UserError(
            f"{self._what}={self.address} cannot be {done} ({reason}). See that the bucket "
            "is there, and that this machine has access to it and to the network."
        )


def _opened(scheme: str, address: str) -> tuple[Any, str]:
    """The file system of a store, once it has answered, and the path of an address there."""
    options = {"use_listings_cache": False, **_OPTIONS.get(scheme, {})}
    files = fsspec.filesystem(scheme, **options)
    root = files._strip_protocol(address)
    with contextlib.suppress(FileNotFoundError):  # there need not be anything yet
        files.ls(root)
    return files, root


def _entry(info: dict[str, Any]) -> Entry:
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    return Entry(int(info.get("size") or 0), version)


def _in_time(action: Callable[[], T]) -> T:
    """Calls a function in a thread, which is left alone where it takes too long."""
    results: list[T] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(action())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {PATIENCE:.0f} seconds")
    return results[0]
