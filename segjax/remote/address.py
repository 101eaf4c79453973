"""Addresses of folders and files that are not on this machine, told from its paths."""

from __future__ import annotations

import re
from pathlib import PurePath

from segjax.errors import UserError

STORES = {"gs": "gcsfs", "s3": "s3fs"}
"""The stores of objects that can be used, and the package that opens each: an extra of segjax."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?!/)")
"""One letter is a disk of Windows; of two slashes pathlib keeps one."""


def scheme_of(place: str | PurePath) -> str:
    """The scheme of an address, in lower case; "" of a path of this machine.

    Example:
      >>> [scheme_of(x) for x in ("s3://bucket/run", "runs/a", "C:/runs", "a:b/c")]
      ['s3', '', '', '']
    """
    found = _SCHEME.match(str(place))
    return found[1].lower() if found else ""


def is_remote(place: str | PurePath | None) -> bool:
    """Whether something is an address, and not a path of this machine."""
    return place is not None and bool(scheme_of(place))


def require_store(address: str, what: str) -> None:
    """Checks that an address is one of a store that can be used.

    Args:
      address: the address.
      what: the flag that names it.

    Raises:
      UserError: it is another kind of address, or names no bucket.
    """
    scheme = scheme_of(address)
    if scheme not in STORES:
        known = " or ".join(f"{name}://" for name in STORES)
        raise UserError(
            f"{what}={address} is an address of {scheme}://, which segjax does not open: "
            f"give a path of this machine, or an address of {known}."
        )
    if not address.partition("://")[2].strip("/"):
        raise UserError(
            f"{what}={address} names no bucket: write {scheme}://BUCKET/FOLDER."
        )


def require_local(place: str | PurePath | None, what: str) -> None:
    """Checks that a place is on this machine, before a folder is made that is called `gs:`.

    Args:
      place: a path, or None.
      what: the flag that names it, or what it is.

    Raises:
      UserError: it is an address.
    """
    if is_remote(place):
        named = f"{what}={place}" if what.startswith("-") else f"{what} {place}"
        raise UserError(
            f"{named} is an address, and here only a path of this machine can be used: give "
            "one, and copy what lies there or shall lie there."
        )
