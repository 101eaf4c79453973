"""Remote places as paths of this machine, for as long as they are worked with."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar, cast

from etils import epath

from segjax.errors import UserError
from segjax.remote.address import is_remote, scheme_of
from segjax.remote.lease import held
from segjax.remote.mirror import Mirror, Pusher
from segjax.remote.store import Store

log = logging.getLogger("segjax")

P = ParamSpec("P")
T = TypeVar("T")


def with_copies(
    *, read: Collection[str] = (), write: Collection[str] = (), first: str = ""
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a function take addresses of remote folders where it takes paths.

    Args:
      read: arguments of the function whose folders or files are copied here before the call.
      write: those whose folders are copied back after it, too.
      first: name of a file that is copied back before all others.

    Returns:
      A decorator. Paths that the function returns, in a list, lie at the addresses.
    """

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> T:
            bound = signature.bind(*arguments, **named)
            given = bound.arguments
            places = [x for x in (*read, *write) if is_remote(given.get(x))]
            if not places:
                return function(*arguments, **named)
            with contextlib.ExitStack() as stack:
                moved: dict[Path, str] = {}
                for name in places:
                    make = to_read(given[name], f"--{name}")
                    if name in write:
                        make = to_write(given[name], f"--{name}", [first])
                    path = stack.enter_context(make)
                    moved[path] = _address(given[name])
                    given[name] = str(path)
                result = function(*bound.args, **bound.kwargs)
            return _at_addresses(result, moved)

        return call

    return decorated


def _at_addresses(result: T, moved: Mapping[Path, str]) -> T:
    """A list of paths, with those below copies at their addresses; all else as it is."""
    if not isinstance(result, list) or not all(isinstance(x, Path) for x in result):
        return result
    found: list[Any] = result
    for folder, address in moved.items():
        found = [
            epath.Path(address) / path.relative_to(folder).as_posix()
            if folder in path.parents
            else path
            for path in found
        ]
    return cast(T, found)


@contextlib.contextmanager
def to_read(
    place: str | PurePath,
    what: str,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Iterator[Path]:
    """Copies a remote folder or file, for as long as it is read.

    Args:
      place: a path, which is given back as it is, or an address.
      what: the flag that names it.
      wanted: which names of a folder are copied.

    Yields:
      The path.

    Raises:
      UserError: the store does not let it be read, or there is nothing.
    """
    if not is_remote(place):
        yield Path(place)
        return
    address = _address(place)
    store = Store(address, what)
    with tempfile.TemporaryDirectory(prefix="segjax-") as made:
        folder = Path(made) / store.name
        folder.mkdir()
        with _named(folder, address):
            if not Mirror(store, folder).fetch(wanted):
                raise UserError(
                    f"{what}={address} does not exist: give an address below which objects "
                    "lie."
                )
            single = folder / store.name
            yield single if store.is_object else folder


@contextlib.contextmanager
def to_write(
    place: str | PurePath, what: str, first: Collection[str] = ()
) -> Iterator[Path]:
    """Copies a remote folder, and back what is written there, also where an error ends it.

    Args:
      place: a path, which is given back as it is, or an address.
      what: the flag that names it.
      first: names of files that are copied back before all others.

    Yields:
      The path.

    Raises:
      UserError: the store does not let it, or others have written the same objects meanwhile.
    """
    if not is_remote(place):
        yield Path(place)
        return
    address = _address(place)
    store = Store(address, what)
    store.require_writable()
    with tempfile.TemporaryDirectory(prefix="segjax-") as made:
        folder = Path(made) / store.name
        folder.mkdir()
        mirror = Mirror(store, folder)
        with _named(folder, address):
            mirror.fetch()
            try:
                yield folder
            except BaseException:  # what is complete stays
                mirror.push_carefully(first)
                raise
            mirror.push_carefully(first)


@contextlib.contextmanager
def to_train_in(address: str | PurePath, what: str) -> Iterator[Path]:
    """Copies the remote folder of a run, holds it, and copies back while it is trained.

    A checkpoint counts there when all of it is there. What cannot be copied at the end stays on
    this machine, and the message says where.

    Args:
      address: the folder.
      what: the flag that names it.

    Yields:
      The copy.

    Raises:
      UserError: the store does not let it, or another process works there.
    """
    address = _address(address)
    store = Store(address, what)
    folder = Path(tempfile.mkdtemp(prefix="segjax-")) / store.name
    folder.mkdir()
    done = False
    try:
        with held(store) as lease:
            mirror = Mirror(store, folder)
            mirror.fetch()
            pusher = Pusher(mirror, lease)
            try:
                with _named(folder, address):
                    yield folder
            finally:
                try:
                    pusher.close()
                    done = True
                    log.info("The run lies in %s.", address)
                except UserError as error:
                    raise UserError(
                        f"{error} What was not copied lies in {folder}."
                    ) from error
    finally:
        if done or not any(folder.iterdir()):
            shutil.rmtree(folder.parent, ignore_errors=True)


def _address(place: str | PurePath) -> str:
    """An address as text, also where pathlib has made one slash of two."""
    scheme = scheme_of(place)
    return f"{scheme}://{str(place).partition(':')[2].strip('/')}"


_COPIES: dict[str, str] = {}
"""The addresses of the copies that are worked with, by their folders."""


def with_addresses(text: object) -> str:
    """A text for the user, with addresses in place of the folders of their copies."""
    found = str(text)
    for folder, address in _COPIES.items():
        found = found.replace(folder, address)
    return found


@contextlib.contextmanager
def _named(folder: Path, address: str) -> Iterator[None]:
    """Has messages name the address in place of its copy."""

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = with_addresses(record.getMessage()), ()
        return True

    _COPIES[str(folder)] = address
    log.addFilter(rename)
    try:
        yield
    except UserError as error:
        text = with_addresses(error)
        if text == str(error):
            raise
        raise type(error)(text) from error
    finally:
        log.removeFilter(rename)
        del _COPIES[str(folder)]
