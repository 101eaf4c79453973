"""Single files: whole or not there, never written through a link, locked among processes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from segjax.errors import UserError
from segjax.remote.address import require_local

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


@contextlib.contextmanager
def whole_file(
    path: Path, before: Callable[[io.BufferedRandom], None] | None = None
) -> Iterator[io.BufferedRandom]:
    """Opens a file that becomes `path` when it is whole, and vanishes otherwise.

    Its name is random, so nobody can have put a link there. It takes the place of what
    lies at `path`; what a link there leads to is left as it is.

    Args:
      path: the file.
      before: called with the whole file, still open, before it takes its place.

    Yields:
      The file, to be written and read.

    Raises:
      OSError: it cannot be written.
      UserError: it is an address of another machine.
    """
    require_local(path, "The file")
    partial = path.with_name(f".partial-{secrets.token_hex(8)}")
    try:
        with partial.open("xb+") as file:
            yield file
            if before is not None:
                before(file)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def free_name(path: Path) -> Path:
    """The first of `path-1`, `path-2`, ... that is not there."""
    number = 1
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free


def require_writable(folder: Path) -> None:
    """Checks that files can be made in a folder, or the folder itself where it is missing.

    Raises:
      OSError: they cannot.
      UserError: it is an address of another machine.
    """
    require_local(folder, "The folder")
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    with tempfile.TemporaryFile(dir=there):
        pass


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a lock among processes, which the kernel releases when its holder dies.

    The file stays, as removing it would be a race. Nothing is ever written to it: where a
    link lies there, what it leads to is locked, and left as it is.

    Args:
      path: the file to lock; made where it is missing.
      wait: whether to wait for another holder, and to go without a lock where the file
        system has none.

    Yields:
      Nothing.

    Raises:
      BlockingIOError: another process holds it.
      OSError: the file cannot be opened or locked.
      UserError: the system has no such locks, or a link leads nowhere.
    """
    try:
        import fcntl
    except ImportError:
        raise UserError(
            f"{path} cannot be locked, as Python has no module fcntl on this system: "
            "segjax trains and prepares data on Linux and macOS. On Windows, use WSL."
        ) from None
    with contextlib.suppress(FileExistsError):  # "x" makes no file through a link
        path.open("xb").close()
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link that leads nowhere. Remove it.")
    descriptor = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not (wait and error.errno in NO_LOCKS):
                raise
        yield
    finally:
        os.close(descriptor)
