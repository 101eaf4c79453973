"""Parts of the site that Sphinx does not have: an extension of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds formulas without scripts, figures, the gallery, links and docstrings as written."""
    from site_parts import docstrings, formulas, gallery, interactive, pages

    docstrings.setup(app)
    formulas.setup(app)
    gallery.setup(app)
    interactive.setup(app)
    pages.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
