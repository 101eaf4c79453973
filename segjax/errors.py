"""The one error that the user is meant to read; alone here, so that it costs no import."""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable

LONGEST = 800
"""Of a sentence, in characters."""


_DIRECTIONS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Characters that turn the direction of writing, so that a name reads as another."""


class UserError(Exception):
    """A mistake of the user, in one or two sentences: what was found, where, what to do."""

    def __init__(self, sentence: object = ""):
        text = escape_control(str(sentence)).replace("\n", "\\n").replace("\t", "\\t")
        super().__init__(_shortened(text))


def _shortened(text: str) -> str:
    """Cuts the middle out of what nobody would read: a name of 4,000 letters, a list.

    What was found stands at the start of a sentence, and what to do at its end.
    """
    return text if len(text) <= LONGEST else f"{text[:400]} [...] {text[-390:]}"


def escape_control(text: str) -> str:
    r"""Writes control characters as escapes, since names of files and keys may hold any.

    A terminal obeys such characters; lone surrogates, which stand for undecodable bytes
    of a name, cannot even be printed. Line ends, tabs and spaces of all kinds stay, and of
    the invisible characters those that join letters or emoji; those that turn the
    direction of writing do not.

    Example:
      >>> print(escape_control("red" + chr(27) + "[31m.png"))
      red\x1b[31m.png
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable()
        or c in "\n\t"
        or (unicodedata.category(c) in ("Zs", "Cf") and c not in _DIRECTIONS)
        else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple = 3, 6, 6
_SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 4, 60, 60


def shown(value: object) -> str:
    """Writes a value into a sentence: on one line and short, however long or deep it is.

    Example:
      >>> shown([1, "a", None]), shown(list(range(99)))
      ("[1, 'a', None]", '[0, 1, 2, 3, 4, 5, ...]')
    """
    return " ".join(_SHORT.repr(value).split())


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
