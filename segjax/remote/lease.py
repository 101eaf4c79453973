"""Who writes to a remote folder: one process at a time, where no kernel has locks.

The holder has the object `.lock/N`, which it made on the store's condition that there was none:
of several that try, one is let. It renews the object every few seconds. Whoever finds one that
is not renewed for `STALE` seconds takes `.lock/N+1`, on the same condition, and the holder of
the highest number is the one that counts. What is promised: of processes that begin at the same
time one goes on, and one that is killed stands in nobody's way for longer than `STALE`. What is
not: a process that cannot reach the store for that long can come back and write for as long as
it takes to look at the lock again, which it does before each copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.remote.store import Store

FOLDER = ".lock"
RENEWED = 10.0
"""Seconds after which the holder renews its object."""
STALE = 60.0
"""Seconds without a change after which it counts for nothing."""


class TakenError(UserError):
    """The lease is another process's by now."""


class Lease:
    """The right to write to a folder."""

    def __init__(self, store: Store, sleep: Callable[[float], None] = time.sleep):
        """Takes it; where another process may hold it, that is found out first.

        Args:
          store: the folder.
          sleep: waits so many seconds.

        Raises:
          UserError: another process holds it, or takes it at the same time.
        """
        self._store, self._token, self._count = store, secrets.token_hex(8), 0
        self._sleep = sleep
        newest = self._newest()
        if newest:
            self._wait_until_stale(newest)
        self._number = newest + 1
        if not store.create(self._name(self._number), self._content()):
            raise self._taken()
        self._renewed = time.monotonic()
        if newest:
            store.remove(self._name(newest))

    def renew(self) -> None:
        """Renews it, if it is time to.

        Raises:
          TakenError: another process has taken it.
          UserError: the store does not let it.
        """
        if time.monotonic() - self._renewed > RENEWED:
            self.check()
            self._store.write(self._name(self._number), self._content())
            self._renewed = time.monotonic()

    def check(self) -> None:
        """Checks that it is still held.

        Raises:
          TakenError: it is not.
          UserError: the store does not let it be looked at.
        """
        found = self._store.read(self._name(self._number))
        if _parsed(found).get("token") != self._token or self._newest() > self._number:
            raise TakenError(
                f"{self._store.address} was taken over by another process, as this one had "
                f"not reached it for {STALE:.0f} seconds. Nothing more is written there."
            )

    def release(self) -> None:
        """Gives it back, if it is still held."""
        with contextlib.suppress(UserError):
            self.check()
            self._store.remove(self._name(self._number))

    def _newest(self) -> int:
        names = self._store.entries(FOLDER)
        return max((int(x) for x in names if x.isascii() and x.isdigit()), default=0)

    def _wait_until_stale(self, number: int) -> None:
        first = self._store.read(self._name(number))
        if _is_of_dead_process(_parsed(first)):
            return
        waited = 0.0
        while waited < STALE:
            self._sleep(RENEWED / 2)
            waited += RENEWED / 2
            found = self._store.read(self._name(number))
            if found is None or self._newest() > number:
                raise self._taken()
            if found != first:
                raise self._taken(_parsed(found).get("host"))

    def _taken(self, host: object = None) -> UserError:
        where = f" on {host}" if isinstance(host, str) else ""
        return UserError(
            f"Another process{where} is working in {self._store.address}: wait for it, or "
            "choose another folder."
        )

    def _content(self) -> bytes:
        self._count += 1
        own: dict[str, Any] = {"token": self._token, "renewed": self._count}
        return json.dumps({**own, **_this_process()}).encode()

    def _name(self, number: int) -> str:
        return f"{FOLDER}/{number}"


def _this_process() -> dict[str, Any]:
    """What tells this process from all others, on this machine and elsewhere."""
    place = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on every system
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(os.readlink("/proc/self/ns/pid"))
    return {"host": place[0], "place": " ".join(place), "pid": os.getpid()}


def _is_of_dead_process(row: dict[str, Any]) -> bool:
    """Whether a lock is of a process of this very machine that is not there any more."""
    here, pid = _this_process(), row.get("pid")
    if row.get("place") != here["place"] or len(here["place"].split()) < 3:
        return False
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _parsed(content: bytes | None) -> dict[str, Any]:
    """The JSON of a lock; empty where it is none."""
    with contextlib.suppress(ValueError):
        row = json.loads(content or b"{}")
        if isinstance(row, dict):
            return row
    return {}


@contextlib.contextmanager
def held(store: Store) -> Iterator[Lease]:
    """Holds the lease of a folder."""
    lease = Lease(store)
    try:
        yield lease
    finally:
        lease.release()
