"""Docstrings as Sphinx reads them: they are written in Markdown, and it takes reStructuredText."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTION = re.compile(
    r"(Args|Attributes|Example|Examples|Note|Raises|Returns|Yields):\s*$"
)
"""A line after which napoleon knows how to go on."""

LIST_ITEM = re.compile(r"([-*]|\d+\.) ")

BEFORE_NAPOLEON = 100
"""Of the priorities of Sphinx, whose default is 500."""

OF_VALUES = ("attribute", "data", "property")
"""Kinds whose first line napoleon takes for `type: description`; a comment keeps it off."""

_CODE = re.compile(r"(?<!`)`([^`]+?)`(?!`)", re.DOTALL)
_MEANT = re.compile(r"\||\*(?!\s)|(?<=\w)_(?=\W|$)")
_MAY_FOLLOW_CODE = " \n'\")]}>-/\\:.,;!?"


def as_restructured_text(lines: list[str]) -> list[str]:
    """Brings a docstring into the form that Sphinx reads.

    Tables and lines that are indented below a sentence become blocks as they stand; `code`
    stays code, also before letters; other marks mean themselves.

    Args:
      lines: of the docstring, without common indentation.

    Returns:
      The lines of the same text.

    Example:
      >>> as_restructured_text(["The norm |x| of `a`s."])
      ['The norm \\\\|x\\\\| of ``a``\\\\ s.']
      >>> as_restructured_text(["Is", "    a + b", "here."])
      ['Is', '', '::', '', '    a + b', '', 'here.']
    """
    found: list[str] = []
    for kind, group in itertools.groupby(_kinds(lines), key=operator.itemgetter(0)):
        part = [line for _, line in group]
        if kind == "text":
            part = _escaped("\n".join(part)).split("\n")
        elif kind == "block":
            indented = (
                f"    {line}" if line.startswith("|") else line for line in part
            )
            part = ["", "::", "", *indented, ""]
        found += part
    return found


def _kinds(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Says of each line whether it is text, a block that stays as it is, or an example."""
    kind, in_section, in_item = "text", False, False
    for line in lines:
        is_flush = not line[:1].isspace()
        if not line.strip():
            kind = "block" if kind == "block" else "text"
        else:
            if is_flush:
                in_section = bool(SECTION.match(line))
                in_item = bool(LIST_ITEM.match(line))
            if kind == "example" or line.lstrip().startswith(">>>"):
                kind = "example"
            elif not in_section and (line.startswith("|") or not (is_flush or in_item)):
                kind = "block"
            else:
                kind = "text"
        yield kind, line


def _escaped(text: str) -> str:
    """Lets marks that Markdown does not know mean themselves."""
    pieces = _CODE.split(text)
    for i in range(0, len(pieces), 2):
        pieces[i] = _MEANT.sub(r"\\\g<0>", pieces[i])
        if i and pieces[i][:1] not in _MAY_FOLLOW_CODE:
            pieces[i] = rf"\ {pieces[i]}"
    for i in range(1, len(pieces), 2):
        pieces[i] = f"``{pieces[i]}``"
    return "".join(pieces)


def _process(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = as_restructured_text(lines)
    if what in OF_VALUES:
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> None:
    """Connects it to the reading of docstrings."""
    app.connect("autodoc-process-docstring", _process, priority=BEFORE_NAPOLEON)
