"""Orbax's reads and writes: waited for when one of them fails, and why it failed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from orbax.checkpoint._src import asyncio_utils

T = TypeVar("T")

_run_sync = asyncio_utils.run_sync

_OF_THE_DISK = (
    "ENOSPC",
    "EDQUOT",
    "EFBIG",
    "EIO",
    "EROFS",
    "EACCES",
    "EPERM",
    "EMFILE",
)
"""Errors whose plain message TensorStore hides in paragraphs of its own."""

_PASSING = re.compile("PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|Too many open")
"""Names that TensorStore and XLA give to errors that are not the checkpoint's own."""


def silence_orbax() -> None:
    """Drops the log of Orbax, whose threads write pages about errors that are raised as well.

    It logs as absl, whose level others set again while its threads are at work.
    """
    for name in ("absl", "orbax"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).addFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def let_orbax_finish() -> None:
    """Makes Orbax wait for what it has begun before it closes an event loop.

    Orbax reads and writes the arrays of a checkpoint side by side, in an event loop of
    its own. When one fails, Orbax (0.12.8) closes that loop at once, while TensorStore's
    threads are still at work on the others. Each that comes back finds the loop closed,
    and Python prints a page that nobody can catch: dozens of them for one damaged
    checkpoint or one full disk, at any moment later on.

    Orbax has no switch for it, and an event loop policy would change every loop of the
    process; so the function that Orbax runs its coroutines with is wrapped. Calling
    this twice does no harm.
    """
    asyncio_utils.run_sync = _run_all


def _run_all(coroutine: Coroutine[Any, Any, T]) -> T:
    return _run_sync(to_the_end(coroutine))


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Awaits a coroutine and, if it fails, all other tasks of its event loop.

    Args:
      coroutine: what is awaited, in an event loop of its own.

    Returns:
      Its result.

    Raises:
      Exception: what it raised. What the other tasks raise is dropped, as
        `asyncio.gather` does after the first failure.

    Example:
      >>> ended = []
      >>> async def read(seconds):
      ...     await asyncio.sleep(seconds)
      ...     ended.append(seconds)
      >>> async def fail():
      ...     raise OSError("disk")
      >>> async def both():
      ...     await asyncio.gather(read(0.01), fail())
      >>> asyncio.run(to_the_end(both()))
      Traceback (most recent call last):
      OSError: disk
      >>> ended
      [0.01]
    """
    try:
        return await coroutine
    except Exception:
        this = asyncio.current_task()
        while left := asyncio.all_tasks() - {this}:
            await asyncio.gather(*left, return_exceptions=True)
        raise


def reason(error: BaseException) -> str:
    """Says in a few words why Orbax failed: the system's own words, or a first line.

    Example:
      >>> reason(ValueError("INTERNAL: Error writing x [d.cc:1] No space left on device"))
      'No space left on device'
      >>> reason(ValueError("Key not found. A dump of the tree follows."))
      'Key not found. A dump of the tree follows'
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    text = str(error).strip() or type(error).__name__
    for name in _OF_THE_DISK:
        words = os.strerror(getattr(errno, name))
        if words in text:
            return words
    return text.splitlines()[0][:100].rstrip(" .:")


def is_passing(error: BaseException) -> bool:
    """Whether an error is one of rights, disk, network or memory, and not of content.

    Example:
      >>> is_passing(OSError(errno.EIO, "a disk")), is_passing(FileNotFoundError())
      (True, False)
    """
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, OSError):
        return not isinstance(error, missing)
    return bool(_PASSING.search(str(error)))
