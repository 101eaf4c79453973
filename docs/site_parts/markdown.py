"""The pages of docs/ as pages of a site, before they are parsed.

The front page names every page under one of its doors, and is the only place that does; the
navigation is made of its links. A site has no page for a folder: a link to one leads to the
reference where it is a package, and is shown as text elsewhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

PAGES = (".md", ".ipynb", ".rst")
"""What the name of a page ends in."""

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)\)")


def with_navigation(text: str, page: str, added: Mapping[str, str]) -> str:
    """Adds a hidden table of contents to each part of the front page.

    Args:
      text: the front page, in Markdown.
      page: its name from the root, such as "docs/index".
      added: lines for the end of sections, by their titles: what only the site has.

    Returns:
      The page, each part with its links to other pages as a `toctree` at its end.
    """
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    written = []
    for section in (head, *sections):
        title = re.match(r"## (.+)", section)
        if title and title[1] in added:
            section = f"{section.rstrip()}\n{added[title[1]]}\n"
        entries = [
            "/" + posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            for _, target in LINK.findall(section)
            if target.endswith(PAGES)
        ]
        caption = f":caption: {title[1]}\n" if title else ""
        listed = "\n".join(re.sub(r"\.\w+$", "", entry) for entry in entries)
        toctree = f"```{{toctree}}\n:hidden:\n{caption}\n{listed}\n```\n\n"
        written.append(f"{section.rstrip()}\n\n{toctree if entries else ''}")
    return "".join(written)


def without_folders(text: str, folder: Path, root: Path) -> str:
    """Leads links to packages of segjax to their reference, and writes others to folders as text.

    Args:
      text: a page, in Markdown.
      folder: where it stands.
      root: the root of the repository.

    Returns:
      The page.
    """

    def shown(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.is_dir():
            return match[0]
        parts = target.relative_to(root).parts
        if parts[:1] == ("segjax",):
            return f"[{match[1]}](/docs/api/{'.'.join(parts)}.rst)"
        return match[1]

    return LINK.sub(shown, text)
