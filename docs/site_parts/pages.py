"""What Sphinx is told about the pages of docs/: their navigation, and their links to code.

A link to a module of segjax leads to its reference, and not to a copy of the file.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from site_parts.markdown import with_navigation, without_folders

REFERENCE = {
    "Look up": "- [The reference](api/segjax.rst): every module, from its docstrings."
}
"""What the front page has on the site alone, since the reference is made with it."""


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(page))
    if path.suffix == ".md":
        source[0] = without_folders(source[0], path.parent, Path(app.srcdir))
    if page == app.config.root_doc:
        source[0] = with_navigation(source[0], page, REFERENCE)


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
