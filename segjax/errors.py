"""The one error that a person is meant to read; alone here, so that it costs no import."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A person's mistake, told in one or two sentences: what was found, where, what to do."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Ends a message about an unknown word: the known word it is close to, or all of them.

    Example:
      >>> suggestion("featurs", ["features", "depth"])
      ' Did you mean "features"?'
      >>> suggestion("colour", ["features", "depth"])
      ' Known: depth, features.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    close = close or [name for name in known if word and word in name]
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" Known: {', '.join(known)}." if known else " There are none."
