"""The pages of docs/ as pages of a site: their order, and their links out of docs/.

The front page names every page under one of its doors, and is the only place that does; the
navigation is made of its links. A link to a module of segjax leads to its reference, one to a
folder is shown as text, since a site has no page for it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)\)")


def with_navigation(text: str, page: str) -> str:
    """Adds a hidden table of contents to each section of the front page.

    Args:
      text: the front page, in Markdown.
      page: its name from the root, such as "docs/index".

    Returns:
      The page, each section with its links to other pages as a `toctree` at its end.
    """
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    written = [head]
    for section in sections:
        title = section.splitlines()[0].removeprefix("## ")
        entries = [
            "/" + posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            for _, target in LINK.findall(section)
            if target.endswith((".md", ".ipynb"))
        ]
        listed = "\n".join(re.sub(r"\.(md|ipynb)$", "", entry) for entry in entries)
        toctree = f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n\n"
        written.append(f"{section.rstrip()}\n\n{toctree if entries else ''}")
    return "".join(written)


def without_folders(text: str, folder: Path) -> str:
    """Writes links to folders as text.

    Args:
      text: a page, in Markdown.
      folder: where it stands.

    Returns:
      The page.
    """

    def shown(match: re.Match[str]) -> str:
        return match[1] if (folder / match[2]).is_dir() else match[0]

    return LINK.sub(shown, text)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(page))
    if path.suffix == ".md":
        source[0] = without_folders(source[0], path.parent)
    if page == app.config.root_doc:
        source[0] = with_navigation(source[0], page)


def _link_modules(app: Sphinx, document: nodes.document) -> None:
    page = app.env.docname
    for node in list(document.findall(addnodes.download_reference)):
        target = posixpath.normpath(
            posixpath.join(posixpath.dirname(page), node["reftarget"])
        )
        if target.startswith("segjax/") and target.endswith(".py"):
            module = target.removesuffix(".py").removesuffix("/__init__")
            link = addnodes.pending_xref(
                "",
                *node.children,
                refdomain="std",
                reftype="doc",
                reftarget=f"/docs/api/{module.replace('/', '.')}",
                refexplicit=True,
                refdoc=page,
            )
            node.replace_self(link)


def setup(app: Sphinx) -> None:
    """Connects the two to the reading of pages."""
    app.connect("source-read", _read)
    app.connect("doctree-read", _link_modules, priority=1)
